"""Where in the life of an attempt may a test want to stand and watch?

Each milestone is announced to an observer, which in production is a function that does nothing. Tests that kill workers
start them through an entry point of their own, which sets another one, so that "between upload and commit" is a place
and not a guess about time.
"""

from collections.abc import Callable
from enum import StrEnum

from screening.jobs import Claim


class Milestone(StrEnum):
    """Places that a crash must survive."""

    CLAIMED = "claimed"
    PREPARED = "prepared"
    INFERRED = "inferred"
    UPLOADED = "uploaded"  # mask and heat map are stored, nothing is committed
    RECORDED = "recorded"


Observer = Callable[[Milestone, Claim], None]


def _nobody(milestone: Milestone, claim: Claim) -> None:
    """Do nothing."""


_observer: Observer = _nobody


def observe(observer: Observer) -> None:
    """Have every milestone of this process announced to `observer`, on the thread that reaches it."""
    global _observer
    _observer = observer


def reached(milestone: Milestone, claim: Claim) -> None:
    """Announce that an attempt has come this far."""
    _observer(milestone, claim)
