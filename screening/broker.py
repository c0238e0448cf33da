"""How is a worker woken? By a Celery message that carries an id and means nothing but "look at the rows".

The API publishes by task name and never imports the worker. Publishing is best effort: a bell that is lost costs
seconds, because the sweeper rings again for whatever is due.
"""

import time
from enum import StrEnum
from uuid import UUID

import structlog
from celery import Celery
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from screening.ids import Prefix, encode

logger = structlog.get_logger(__name__)

# Seconds without a try after a failed one: a Redis that is away, or worse, hangs, costs one time-out in this span.
SILENCE = 2.0


class Queue(StrEnum):
    """One queue a kind of worker: a slow endpoint must never stall inference."""

    SCREENINGS = "screenings"
    DELIVERIES = "deliveries"
    MAINTENANCE = "maintenance"


class Task(StrEnum):
    """Task names, shared by whoever publishes and whoever runs."""

    SCREEN = "assay.screen"
    DELIVER = "assay.deliver"
    PURGE = "assay.purge"
    SWEEP_BLOBS = "assay.sweep_blobs"


class Doorbell:
    """Publishes wake-ups. One a process; thread-safe; connects on first use."""

    _silent_until = float("-inf")

    def __init__(self, redis_url: str) -> None:
        self._app = Celery("assay-doorbell", broker=redis_url, set_as_current=False)
        self._app.conf.update(
            task_ignore_result=True,
            broker_transport_options={"socket_connect_timeout": 0.5, "socket_timeout": 1.0, "max_retries": 0},
            broker_connection_retry=False,
        )

    def ring_screening(self, screening_id: UUID | None = None) -> bool:
        """Wake a screen worker, for this row or for whatever is due; False where Redis did not take the message."""
        args = [] if screening_id is None else [encode(Prefix.SCREENING, screening_id)]
        return self._ring(Task.SCREEN, Queue.SCREENINGS, *args)

    def ring_deliveries(self) -> bool:
        """Wake an io worker: deliveries are due."""
        return self._ring(Task.DELIVER, Queue.DELIVERIES)

    def ring_purge(self) -> bool:
        """Wake an io worker: retention has work."""
        return self._ring(Task.PURGE, Queue.MAINTENANCE)

    def ring_blob_sweep(self) -> bool:
        """Wake an io worker: it is time to look for blobs that nobody owns."""
        return self._ring(Task.SWEEP_BLOBS, Queue.MAINTENANCE)

    def waiting(self, queue: Queue) -> int:
        """How many bells lie in a queue unheard; 0 where Redis does not say."""
        if time.monotonic() < self._silent_until:
            return 0
        try:
            with self._app.connection_for_write() as connection:
                found = connection.default_channel.queue_declare(queue=queue.value, passive=True)
        except ChannelError:  # Redis keeps no empty lists
            return 0
        except (OperationalError, RedisError, OSError):
            return 0
        return int(found.message_count)

    def _ring(self, task: Task, queue: Queue, *args: str) -> bool:
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._app.send_task(task.value, args=args, queue=queue.value, retry=False, ignore_result=True)
        except (OperationalError, RedisError, OSError) as error:
            self._silent_until = time.monotonic() + SILENCE
            logger.warning("doorbell.silent", task=task.value, error=type(error).__name__)
            return False
        return True
