"""The command line as a user meets it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from screening.cli import main


def test_an_unknown_command_is_wrong_use() -> None:
    result = CliRunner().invoke(main, ["no-such-command"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_a_screen_worker_without_a_checkpoint_says_what_to_set_and_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_WEIGHTS", str(tmp_path))
    result = CliRunner().invoke(main, ["worker", "screen"])
    assert result.exit_code == 1
    assert str(tmp_path) in result.output
    assert "ASSAY_WEIGHTS" in result.output
