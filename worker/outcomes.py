"""How can an attempt end other than with a finding?"""

from dataclasses import dataclass

from screening.errors import Failure


@dataclass(frozen=True, slots=True)
class Failed:
    """It is the image's own fault. With `strike` it is tried again until its strikes are used up."""

    failure: Failure
    strike: bool
    slowly: bool = False  # tried again after minutes instead of seconds


@dataclass(frozen=True, slots=True)
class Released:
    """It is not the image's fault: given back without a strike, later if `backoff`, else at once."""

    reason: str  # shutdown | blob_store | device_memory | ...
    backoff: bool = True
