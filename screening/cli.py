"""How does one entry point serve three packages that may not know each other?

`assay` is a click group whose commands are entry points of the group `assay.commands`. Each is imported only when it
is asked for, so that `assay detect` never pays for FastAPI and `assay admin` never pays for torch.
"""

from importlib.metadata import EntryPoint, entry_points

import click


class LazyGroup(click.Group):
    """A click group whose commands are found by name and imported on use."""

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group="assay.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command without importing any."""
        return sorted(self._entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None where there is no such name, which click reports as wrong use (status 2)."""
        point = self._entry_points().get(cmd_name)
        return None if point is None else self._load(point)

    @staticmethod
    def _load(point: EntryPoint) -> click.Command:
        try:
            command: click.Command = point.load()
        except ModuleNotFoundError as error:
            extra = point.module.split(".")[0]
            raise click.ClickException(
                f"`assay {point.name}` needs the package {error.name!r}: install assay-screening[{extra}]"
            ) from error
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="assay-screening", prog_name="assay")
def main() -> None:
    """Assay screens images for forgery: embedded stack, detector, training, administration."""
