from __future__ import annotations

import csv
from pathlib import Path

import pytest
import typer
from lossylens.errors import ConfigError
from lossylens_task_scenes.plugin import register_commands
from typer.testing import CliRunner

csv.field_size_limit(10**9)


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()

    @application.callback()
    def main() -> None:
        """Stands for the core's command line."""

    register_commands(application)
    return application


def test_export(app: typer.Typer, tmp_path: Path) -> None:
    out = tmp_path / "pope.tsv"
    arguments = ["scenes", "export", "pope", "--images", "3", "--seed", "7", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert f"{len(rows)} rows on 3 scenes" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mmbensh", "OUT"], "Did you mean mmbench"),
        (["pope", "OUT", "--images", "0"], "at least 1"),
        (["pope", "none/OUT"], "does not exist"),
        (["pope", "OUT", "--size", "20"], "96"),
        (["pope", "OUT", "--photographs", "some"], "held-out"),
    ],
)
def test_errors(
    app: typer.Typer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["scenes", "export", *arguments])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_help(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["scenes", "export", "--help"])
    assert result.exit_code == 0
    assert "coco-caption" in result.output
