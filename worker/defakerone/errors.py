"""What can go wrong in the detector, in words that say what to do?"""

from __future__ import annotations


class DetectorError(Exception):
    """Anything that the detector refuses on purpose."""


class CheckpointError(DetectorError):
    """A checkpoint that is incomplete, foreign, misshapen or unsafe to read."""


class WeightsMissingError(CheckpointError):
    """No checkpoint where one was looked for."""


class TokenizerError(CheckpointError):
    """A vocabulary without the tokens that the prompt needs."""


class ImageError(DetectorError):
    """A file that is no image, or one over the limits. `code` is stable and goes into results."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class PromptError(DetectorError):
    """Token ids that do not fit the pixel values beside them."""


class InferenceError(DetectorError):
    """The network answered with something that is no answer."""
