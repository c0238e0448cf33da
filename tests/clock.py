"""How does a test live in the future? By a database address whose sessions set the clock's offset."""

from datetime import timedelta


def later(database_url: str, by: timedelta) -> str:
    """The same database, `by` from now; nothing but SQL's clock moves."""
    return f"{database_url}?options=-c%20assay.clock_offset%3D{by.total_seconds():.6f}s"
