"""What does a bell in the queue `deliveries` set off? The deliveries that are due."""

from screening.broker import Task
from worker.app import app


@app.task(name=Task.DELIVER.value)  # type: ignore[untyped-decorator]
def deliver() -> None:
    """Send what is due."""
