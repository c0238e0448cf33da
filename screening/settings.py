"""What can an operator set, and why is each default what it is?

Everything comes from the environment with the prefix `ASSAY_`. One class holds it; nothing else reads the environment.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """The settings of every process of Assay. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="ASSAY_", extra="ignore", frozen=True)

    # Where things live.
    database_url: str = "postgresql://localhost/assay"
    redis_url: str = "redis://localhost:6379/0"
    blob_url: str = "file:///var/lib/assay/blobs"
    # Credentials and region come from boto3's own chain; only the endpoint is ours, for servers other than Amazon's.
    s3_endpoint_url: str | None = None
    # Links in answers and webhooks are absolute, so they need to know the outside address. No trailing slash.
    public_url: str = "http://localhost:8000"
    # The first key encrypts and signs; every key decrypts and verifies, so that a rotation interrupts nothing.
    # Comma-separated in the environment. `assay up` creates one.
    secret_keys: SecretStr = SecretStr("")
    log_level: str = "INFO"

    # The detector.
    weights: Path | None = None  # None: the bundled checkpoint
    device: str = "auto"  # auto: cuda where there is one, else cpu
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 where the hardware multiplies it
    compile: bool = False  # torch.compile of the layers that come often; faster on a GPU, ready somewhat later
    batch_size: int = Field(
        default=8, ge=1, le=256
    )  # rows a claim takes; larger gains little on one GPU and delays fairness
    mask_mode: str = "always"  # always | never | above=0.3
    worker_threads: int = 0  # cores for the detector on a CPU; 0: all of them, which decoding and recording share

    # What an upload may be. The limits hold before any pixel is decoded.
    max_bytes: int = 25 * MEBIBYTE
    max_pixels: int = 50_000_000  # 50 MP decode to 150 MB of RGB, which the decoder's address-space limit allows for
    max_side: int = 16_384
    max_frames: int = 1_000
    max_metadata_bytes: int = 4_096

    # Decoding runs in subprocesses; these bound what one image can cost.
    decode_seconds: float = 20.0
    decode_memory: int = 1536 * MEBIBYTE
    decoders: int = 2

    # Whose signatures under an image's Content Credentials (C2PA) are trusted: a PEM file of certificate authorities,
    # such as the C2PA's own list. None: an intact signature is `untrusted`, since anybody can make a certificate.
    c2pa_trust_anchors: Path | None = None

    # Fetching a URL source.
    fetch_seconds: float = 20.0
    fetchers: int = Field(default=8, ge=1)  # at once, half of them for one platform; each holds up to max_bytes
    # CIDR ranges, comma-separated, that are allowed although they are not public; for tests and private networks.
    allowed_ranges: str = ""
    # The same for webhook endpoints, apart: a receiver inside is common, fetching images from inside is not.
    webhook_allowed_ranges: str = ""

    # The line. A lease far above one batch's time, renewed at a third of it.
    lease_seconds: float = 60.0
    drain_seconds: float = 60.0  # one task claims for this long, then rings again; limits lie well above
    max_strikes: int = 3
    # With nothing finished for this long, a worker stops renewing its leases: it hangs, and others may take its rows. A
    # lease later its child ends itself, and the pool starts another. Above what one batch of the largest images takes
    # on the slowest device in use.
    stall_seconds: float = 300.0
    # A worker that was asked to stop ends after this at the latest; below what supervisors wait before they kill.
    stop_seconds: float = 30.0
    retry_seconds: float = (
        2.0  # first wait after a storage or GPU-memory error; doubles with each attempt, to 5 minutes
    )
    sweep_seconds: float = 2.0
    # A leading sweeper that is not heard of for this long is replaced; above what one sweep of a long backlog takes.
    sweeper_seconds: float = 60.0
    announce_again_seconds: float = 10.0  # a queued row whose doorbell was lost rings again after this

    # Webhooks. One attempt gets this long in all; receivers are told to answer first and work afterwards.
    webhook_seconds: float = 15.0
    # Seconds over that for which a sender holds its rows: time to record, also after a short outage of the database.
    webhook_lease_margin: float = 45.0
    webhook_concurrency: int = Field(default=256, ge=1)  # attempts under way in one process: waiting costs a socket
    # What one endpoint, and one platform, may hold of that, over all processes. A platform whose endpoints all time
    # out must leave room for everybody else.
    webhook_per_endpoint: int = Field(default=8, ge=1)
    webhook_per_platform: int = Field(default=32, ge=1)
    webhook_secret_overlap_hours: int = 24  # how long the old secret signs beside the new one
    webhook_endpoints_max: int = 50  # for each platform

    # Sign-in of reviewers through an identity provider (OpenID Connect); with an issuer set, the page offers it.
    oidc_issuer: str | None = None
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")

    # Intake.
    backpressure_seconds: float = 900.0  # with the oldest due screening older than this, intake answers 503
    wait_seconds_max: int = 30  # Prefer: wait=N
    idempotency_hours: int = 24
    body_seconds: float = 120.0  # a whole request body: 25 MB at 1.7 Mbit/s; slower clients get 408
    # Where uploads lie until they are stored; None: the system's folder for temporary files. A disk, not memory.
    spool_dir: Path | None = None
    metrics_port: int = 0  # 0: no metrics listener
    default_rate_per_second: float = 50.0
    default_burst: int = 200

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @property
    def keys(self) -> list[str]:
        """The secret keys in order, newest first; empty where none are set."""
        return [key.strip() for key in self.secret_keys.get_secret_value().split(",") if key.strip()]


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Read the environment once a process."""
    return Settings()
