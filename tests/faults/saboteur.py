"""`assay worker screen` with somebody standing at a milestone. The product knows nothing of this module.

SABOTEUR_PAUSE_AT=uploaded SABOTEUR_FOLDER=...   stop there once, for ever, having written a file that says so
SABOTEUR_POISON=<sha256 in hex>                  kill this process when an image of these bytes is prepared

python -m tests.faults.saboteur worker screen
"""

import os
import signal
import time
from pathlib import Path

from screening.cli import main
from screening.jobs import Claim
from worker import milestones
from worker.milestones import Milestone

PAUSE_AT = os.environ.get("SABOTEUR_PAUSE_AT")
FOLDER = Path(os.environ.get("SABOTEUR_FOLDER", "/nonexistent"))
POISON = os.environ.get("SABOTEUR_POISON")


def watch(milestone: Milestone, claim: Claim) -> None:
    """Stand at every milestone, act at one."""
    if milestone == PAUSE_AT and not any(FOLDER.iterdir()):
        (FOLDER / claim.screening_id.hex).touch()
        while True:
            time.sleep(60)
    if milestone == Milestone.PREPARED and claim.sha256 is not None and claim.sha256.hex() == POISON:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    milestones.observe(watch)
    main()
