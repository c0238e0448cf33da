"""Where is Celery bent to our needs, and why at each place? Here, and nowhere else.

A message is a doorbell: it carries nothing that matters, may be lost, and may come twice. PostgreSQL has the rows, and
`screening/jobs.py` sees to it that each ends once. So Celery's own promises are used for waking alone.
"""

from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker import state

from screening.broker import Queue
from screening.settings import Settings, settings
from worker import stopping

# Which tasks each kind of worker imports. `io` never imports torch, so waiting for slow
# endpoints costs small processes.
KINDS = {
    "screen": (["worker.tasks.screen"], [Queue.SCREENINGS]),
    "io": (["worker.tasks.deliver", "worker.tasks.purge"], [Queue.DELIVERIES, Queue.MAINTENANCE]),
}


def hard_limit(with_: Settings) -> float:
    """Seconds after which a draining child is killed: a full drain, and then two stages that each take all they may."""
    return with_.drain_seconds + 2 * with_.stall_seconds + 60


def configuration(with_: Settings) -> dict[str, Any]:
    """Celery's settings; each deviates from a default for the reason beside it."""
    return {
        "broker_url": with_.redis_url,
        # No result backend: the answer is in PostgreSQL, and results in Redis would fill it.
        "task_ignore_result": True,
        # Acknowledge when done: a bell whose worker died rings once more. Costs nothing, since a bell may come twice.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # With more than one bell reserved, a busy child would sit on bells that an idle one should hear.
        "worker_prefetch_multiplier": 1,
        # A drain ends itself after `drain_seconds`. Only a hang meets these: first an exception, then SIGKILL.
        "task_soft_time_limit": hard_limit(with_) - 30,
        "task_time_limit": hard_limit(with_),
        # Loading a checkpoint takes longer than the default of 4 s, which is enforced on every replacement child and
        # would kill each of them, forever.
        "worker_proc_alive_timeout": 300,
        # Before a second signal's cold shutdown kills the children, they get this long to put down their work.
        "worker_soft_shutdown_timeout": 30,
        "broker_transport_options": {
            # Below a task's longest run, Redis would hand its message to a second worker while it still runs.
            "visibility_timeout": 2 * hard_limit(with_),
            # How often unacknowledged messages are looked through: the default of 10 x 10 takes 100 s.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # A Redis that vanished without a word must be noticed.
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        # Redis may come up after us, and may be away for hours: never give up.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A drain goes on without Redis; cancelling it would only cost what is in hand.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Remote control and events are fan-out traffic that nobody listens to.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        # Logging is structlog's, set up by the command.
        "worker_hijack_root_logger": False,
        # Celery's loggers say "received" and "succeeded" for each of a thousand bells.
        "worker_redirect_stdouts": False,
    }


CREDIT_SECONDS = 1.0  # between looks


class Credit(bootsteps.StartStopStep):  # type: ignore[misc]
    """Connects anew where an acknowledgement was lost.

    One that fails because Redis is away is logged, and that is all; yet its message goes on counting against the
    prefetch. With one child the consumer would never ask for a bell again, and since it reads nothing, never find its
    connection broken: a worker that lives, and hears nothing for ever.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """Look now and then, for as long as this connection lives: Celery takes the entry back with it."""
        c.timer.call_repeatedly(CREDIT_SECONDS, self.check, (c,))

    @staticmethod
    def check(c: Any) -> None:
        """Raise ConnectionError, which Celery answers by connecting anew, where credit is lost."""
        qos = c.task_consumer.channel.qos
        unacknowledged = len(qos._delivered) - len(qos._dirty)
        if unacknowledged > len(state.reserved_requests):
            raise ConnectionResetError("an acknowledgement was lost")


app = Celery("assay")
app.config_from_object(configuration(settings()))
app.steps["consumer"].add(Credit)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    stopping.request()
    stopping.end_within(settings().stop_seconds)


def arguments(kind: str, children: int) -> list[str]:
    """What to start a worker of this kind with."""
    modules, queues = KINDS[kind]
    app.conf.imports = modules
    return [
        "worker",
        f"--queues={','.join(queues)}",
        f"--concurrency={children}",
        "--pool=prefork",  # a child that crashes or hangs is replaced, and time limits work; threads have neither
        "--loglevel=WARNING",
        # Nobody needs to know whether other workers exist.
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
