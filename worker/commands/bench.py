"""`assay bench`: the benchmarks. They live in tests/bench, so they run from a checkout."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

_FOLDER = Path("tests") / "bench"


class BenchGroup(click.Group):
    """One subcommand a module of tests/bench that has a `command`; imported only when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the benchmarks of the checkout in the working directory, and `all`."""
        return ["all", *names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one benchmark."""
        if cmd_name == "all":
            return every
        return _load(cmd_name) if cmd_name in names() else None


@click.group(cls=BenchGroup)
def bench() -> None:
    """Measure speed and capacity; tables here, JSON in bench-results/."""
    if not _FOLDER.is_dir():
        raise click.UsageError("benchmarks run from a checkout of the repository: change to its top folder")


@click.command("all")
@click.pass_context
def every(ctx: click.Context) -> None:
    """Run every benchmark with its defaults, one after the other."""
    for name in names():
        click.echo(f"== {name}", err=True)
        ctx.invoke(_load(name))


def names() -> list[str]:
    """Return the modules of tests/bench that define a benchmark."""
    return sorted(p.stem.replace("_", "-") for p in _FOLDER.glob("*.py") if "\ndef command(" in p.read_text("utf-8"))


def _load(name: str) -> click.Command:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    command: click.Command = importlib.import_module(f"tests.bench.{name.replace('-', '_')}").command
    command.name = name
    return command
