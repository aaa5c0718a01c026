"""``lossylens config``, and options that are keys of a configuration."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.grid.config import RunOptions, load_config
from lossylens_toolkit.training.training_options import CodecTrainingOptions

CONFIG = """
codecs: {blocky: {levels: [b64, b7]}, other: {plugin: blocky, offset: 3}}
vlms: {seer: {salt: 5}}
tasks: {patches: {images: 3}}
adaptors: {none: , darken: {by: 3}}
plugins: {disable: []}
run: {out: run, fidelity: [PSNR]}
"""


@pytest.fixture
def file(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return "config.yaml"


def test_all_keys_are_listed(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines() if line.split()}
    for field in fields(RunOptions):
        assert f"run.{field.name}" in lines
    for key in ("plugins.only", "codecs.NAME.levels", "vlms.NAME.plugin", "codecs.blocky.offset"):
        assert key in lines
    assert lines["run.limit"].split(maxsplit=5)[1:5] == ["int", "|", "None", "null"]
    assert "(must be given)" in lines["run.out"]
    assert lines["run.limit"].endswith("only the first so many images of each task.")


def test_a_section_alone(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--section", "vlms"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert all(line.startswith(("vlms.", " ")) for line in lines)
    assert any(line.startswith("vlms.seer.salt ") for line in lines)


def test_a_checked_configuration_is_one_again(
    file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["config", file, "vlms.seer.salt=6", "run.limit=2"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    first = load_config(Path(file), ["vlms.seer.salt=6", "run.limit=2"])
    again = load_config(tmp_path / "again.yaml")
    for part in ("codecs", "vlms", "tasks", "adaptors"):
        one, other = (
            [(each.label, each.spec.name, each.options) if each else None for each in chosen]
            for chosen in (getattr(first, part), getattr(again, part))
        )
        assert one == other
    assert [each.levels for each in again.codecs] == [each.levels for each in first.codecs]
    assert again.run == first.run
    assert again.run.limit == 2


def test_a_wrong_configuration_is_refused(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", file, "vlms.seer.slat=6"]) == 2
    assert "vlms.seer.slat: unknown option. Did you mean salt?" in capsys.readouterr().err


HINTS = {
    "--limit 5": "run.limit=5",
    "--limit=5": "run.limit=5",
    "--limit": "run.limit=VALUE",
    "--limit codecs.blocky.offset=3": "run.limit=VALUE",
    "--limt 5": "run.limit=5",
    "--run.limit 5": "run.limit=5",
    "--run-limit 5": "run.limit=5",
    "--retry-failed": "run.retry_failed=true",
    "--retry_failed=false": "run.retry_failed=false",
    "--no-uncompressed": "run.uncompressed=false",
    "--fidelity psnr": "run.fidelity=[psnr]",
    "--fidelity=[psnr,fid]": "run.fidelity=[psnr,fid]",
    "--only sample": "plugins.only=[sample]",
    "--levels b64": "codecs.NAME.levels=[b64]",
    "--codecs.blocky.offset 3": "codecs.blocky.offset=3",
}


@pytest.mark.parametrize("command", [["run"], ["analyze", "layers", "seer"]])
@pytest.mark.parametrize("given", HINTS)
def test_an_option_that_is_a_key_is_answered_with_it(
    given: str, command: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, file, *given.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    option = given.replace("=", " ").split()[0]
    assert line.startswith(f"lossylens: no option {option}. Did you mean {HINTS[given]}? ")


# `shard` is an option of the command as well.
@pytest.mark.parametrize(
    "field", [each.name for each in fields(RunOptions) if each.name != "shard"]
)
def test_every_key_of_a_run_is_known(
    field: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", file, f"--{field.replace('_', '-')}", "x"]) == 2
    assert f"Did you mean run.{field}=" in capsys.readouterr().err


@pytest.mark.parametrize("field", [each.name for each in fields(CodecTrainingOptions)])
def test_every_key_of_training_is_known(
    field: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "codec", "elic", file, f"--{field.replace('_', '-')}", "x"]) == 2
    assert f"Did you mean {field}=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "expected"),
    [("--dry-runn", "--dry-run"), ("--xyzzy", "No such option: --xyzzy"), ("-q", "No such option")],
)
def test_other_unknown_options_are_answered_as_ever(
    option: str, expected: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", file, option]) == 2
    printed = capsys.readouterr().err
    assert expected in printed
    assert "Keys of the configuration" not in printed


def test_a_key_without_its_section(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", file, "limit=5"]) == 2
    assert "unknown section 'limit'. Did you mean run.limit?" in capsys.readouterr().err
