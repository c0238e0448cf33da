"""How do processes log? As structlog events: one JSON object a line, or plainly in a terminal."""

import logging
import sys

import structlog

from screening.settings import Settings

# These warn of what a client sent. The client is told, as a problem; whoever sends a broken form should not be able to
# write our log. Their errors are about this machine, and are heard.
WARN_OF_CLIENTS = ("python_multipart",)


def configure(settings: Settings) -> None:
    """Set up logging for this process, including what libraries log."""
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    terminal = sys.stderr.isatty()
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for ours in ("screening", "api", "worker"):
        logging.getLogger(ours).setLevel(level)
    for theirs in WARN_OF_CLIENTS:
        logging.getLogger(theirs).setLevel(logging.ERROR)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
