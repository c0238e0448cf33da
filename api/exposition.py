"""Where are the figures read? On a port of their own, which is not public, from one place for all processes."""

import os

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from api import metrics
from screening.backlog import Backlog
from screening.settings import Settings


def registry(settings: Settings) -> CollectorRegistry:
    """What is exposed: this process's figures, or those of all processes where they share a folder."""
    exposed = metrics.REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        exposed = CollectorRegistry()
        MultiProcessCollector(exposed)  # type: ignore[no-untyped-call]
    exposed.register(Backlog(settings))
    return exposed


def serve(settings: Settings) -> None:
    """Answer scrapes on the metrics port from a thread, until the process ends."""
    start_http_server(settings.metrics_port, registry=registry(settings))
