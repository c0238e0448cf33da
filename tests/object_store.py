"""How do tests run against S3? On moto's server, a real HTTP API, which can be stopped and started again."""

from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from screening.embedded.process import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}


class ObjectStore:
    """moto's S3 server, which keeps its objects over a restart on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    @property
    def client(self) -> Any:
        """boto3's own, with the credentials of the environment."""
        return boto3.client("s3", endpoint_url=self.url)

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
