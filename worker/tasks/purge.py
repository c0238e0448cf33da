"""What does a bell in the queue `maintenance` set off? Retention."""

from screening.broker import Task
from worker.app import app


@app.task(name=Task.PURGE.value)  # type: ignore[untyped-decorator]
def purge() -> None:
    """Erase what its platform no longer wants kept."""
