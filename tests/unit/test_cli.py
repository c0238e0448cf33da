"""The command line as a user meets it."""

from click.testing import CliRunner

from screening.cli import main


def test_an_unknown_command_is_wrong_use() -> None:
    result = CliRunner().invoke(main, ["no-such-command"])
    assert result.exit_code == 2
    assert "No such command" in result.output
