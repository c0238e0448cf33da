"""DeFakerOne (arXiv 2605.14091): joint fake-image detection and pixel localization with InternVL2 and SAM2.

`from worker.defakerone import DeFakerOne` is the public face. Importing the package alone loads no torch, so that
`worker.defakerone.images` can serve processes that only decode.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.defakerone.detector import DeFakerOne

__all__ = ["DeFakerOne"]


def __getattr__(name: str) -> Any:
    if name != "DeFakerOne":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from worker.defakerone.detector import DeFakerOne

    return DeFakerOne
