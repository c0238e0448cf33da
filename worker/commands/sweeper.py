"""`assay sweeper`: puts back what stopped moving, and rings for it."""

import signal

import click


@click.command()
def sweeper() -> None:
    """Run the sweeper. Several may run; one sweeps, the others stand by."""
    from screening import logs
    from screening.broker import Doorbell
    from screening.database import sync_engine
    from screening.settings import settings
    from worker.sweeper import Sweeper

    logs.configure(settings())
    engine = sync_engine(settings().database_url, idle_seconds=settings().lease_seconds)
    sweeping = Sweeper(engine, Doorbell(settings().redis_url), settings())
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: sweeping.stop())
    sweeping.run()
    engine.dispose()
