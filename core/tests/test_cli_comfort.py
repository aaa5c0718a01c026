"""What makes the command line pleasant: init, status, completion, JSON, errors, progress."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.run import progress as shown
from lossylens.run.progress import progress, told_spent

CONFIG = """
codecs: {blocky: {levels: [b64]}}
vlms: {seer: }
tasks: {patches: {images: 3, questions: 2, troubles: ',refused'}}
run: {out: run, workers: 1}
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def test_status_of_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # One of three images cannot be encoded: two failures.
    assert main(["run", "config.yaml", "--json"]) == 1
    run = json.loads(capsys.readouterr().out)
    assert run["reports"] == ["run/report/index.html"]
    assert main(["status", "run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {**report, "reports": run["reports"]} == run
    assert (report["outcome"], report["questions"], report["answered"]) == ("done", 12, 12)
    assert (report["failed"], report["left"]) == (2, 0)
    assert [(each["codec"], each["state"], each["failed"]) for each in report["cells"]] == [
        ("uncompressed", "scored", 0),
        ("blocky", "scored", 2),
    ]
    (failure,) = report["failures"]
    assert failure["samples"] == 2
    assert "does not like it" in failure["reason"]
    assert main(["status", "run"]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 cells are scored; 12 of 12 questions are answered, 0 are left, 2 failed." in said
    assert "blocky does not like it" in said


def test_status_says_what_is_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "config.yaml", "tasks.patches.troubles=''", "run.limit=2"]) == 0
    capsys.readouterr()
    # A start with another codec that is killed before anything is answered.
    from lossylens.grid.config import load_config
    from lossylens.run import driver

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver._Steps, "do_curves", lambda *_: (_ for _ in ()).throw(SystemExit))
        overrides = ["tasks.patches.troubles=''", "codecs.blocky.levels=[b64,b16]", "run.limit=2"]
        with pytest.raises(SystemExit):
            driver.run(load_config(Path("config.yaml"), overrides), print)
    capsys.readouterr()
    assert main(["status", "run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in report["cells"]] == ["scored", "scored", "to do"]
    assert (report["left"], report["outcome"]) == (4, "error")


def test_status_of_no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "elsewhere"]) == 2
    assert "elsewhere" in capsys.readouterr().err


def test_init_takes_its_answers_from_options(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--vlm", "seer", "--task", "patches", "--codec", "blocky", "--codec", "Blocky"]
    assert main(["init", "new.yaml", *arguments]) == 0
    text = Path("new.yaml").read_text()
    assert text.count("  blocky:") == 1
    assert text.startswith("# ")
    assert main(["config", "new.yaml", "--json"]) == 0
    out = capsys.readouterr().out
    config = json.loads(out[out.index("{") :])
    assert [*config["codecs"]] == ["uncompressed", "blocky"]
    assert [*config["vlms"]] == ["seer"]
    assert config["run"]["limit"] == 20
    assert main(["run", "new.yaml", "--dry-run", "--json"]) == 0
    assert "1 task" in json.loads(capsys.readouterr().out)["to_do"][0]
    assert main(["init", "new.yaml", *arguments]) == 2
    assert "new.yaml is there already" in capsys.readouterr().err


def test_init_writes_any_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "a: b.yaml", "--yes"]) == 0
    assert "lossylens run 'a: b.yaml' --dry-run" in capsys.readouterr().out
    assert main(["config", "a: b.yaml", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["run"]["out"].endswith("runs/a: b")


def test_init_asks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first as it is suggested, the second and third typed.
    monkeypatch.setattr(sys, "stdin", Terminal("\npatches\nuncompressed, blocky\n"))
    assert main(["init"]) == 0
    text = Path("lossylens.yaml").read_text()
    assert "  blocky:" in text
    assert "  seer:" in text
    assert "Which VLM is to look at the images" in capsys.readouterr().err


def test_init_where_nobody_can_be_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "a.yaml", "--vlm", "seer"]) == 2
    assert "nobody can be asked here: give --vlm, --task and --codec" in capsys.readouterr().err
    assert main(["init", "a.yaml", "--vlm", "sear", "--yes"]) == 2
    assert "Did you mean seer?" in capsys.readouterr().err
    assert main(["init", "none/a.yaml", "--yes"]) == 2
    assert "there is no folder none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'? See `lossylens --help`."),
        (["run"], "Missing argument 'config'. See `lossylens run --help`."),
        (["plugins", "shw"], "No such command 'shw'. Did you mean 'show'?"),
        (["doctor", "--jsn"], "No such option: --jsn (Possible options: --json)."),
        (["config", "--section", "x"], "Invalid value for '--section'"),
    ],
)
def test_errors_of_the_command_line_look_like_all_others(
    plants: object, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"lossylens: {message}")
    assert len(err.splitlines()) == 1


def test_windows_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        code = main(["plugins"])
    assert code == 2
    assert "run lossylens in WSL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("lossylens sta", ["status"]),
        ("lossylens encode bl", ["blocky"]),
        ("lossylens ask se", ["seer"]),
        ("lossylens score --pred", ["--predictions"]),
    ],
)
def test_the_shell_completes(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    offered: list[str],
) -> None:
    monkeypatch.setenv("_LOSSYLENS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert main([]) == 0
    assert capsys.readouterr().out.split() == offered


def test_keys_of_a_configuration_as_json(
    plants: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--section", "run", "--json"]) == 0
    keys = {each["key"]: each for each in json.loads(capsys.readouterr().out)["keys"]}
    assert keys["run.out"]["type"] == "Path"
    assert all(each["meaning"] for each in keys.values())


def test_what_was_spent_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: clock[0])
    with progress("Answering", 100, "questions") as step:
        clock[0] = 10
        step.advance(1, {"cost": 0.01, "input_tokens": 900, "output_tokens": 100})
        clock[0] = 40
        step.advance(1, {"cost": 0.02, "input_tokens": 1000})
        clock[0] = 700
        step.advance(8)
        # 40 s after the last line, which is less than a tenth of the time so far.
        clock[0] = 740
        step.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "Answering: 2 of 100 questions",
        "Answering: 10 of 100 questions",
        "Answering: 11 of 100 questions",
    ]
    assert lines[0].endswith("33 min left, cost 0.03 so far, 2 k tokens")
    assert lines[1].endswith("105 min left, cost 0.03 so far, 2 k tokens")
    assert told_spent({}) == ""
