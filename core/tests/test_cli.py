"""The command line: errors, exit codes, commands of plugins, plugins and doctor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from lossylens import __version__
from lossylens.cli import main
from lossylens.cli.commands import LazyCommands, core_commands

COMMAND = """
from lossylens.hookspecs import hookimpl

@hookimpl
def register_commands(app):
    @app.command()
    def {name}():
        "Does {name}."
{body}
"""


CODEC = """
from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl

@hookimpl
def register_codecs(register):
    levels = (Level("x"),)
    register(CodecSpec(name="wordy", summary="{summary}", factory="lossylens:N", levels=levels))
"""


def plant_command(plants, body: str, name: str = "act", **arguments: str) -> None:
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    source = COMMAND.format(name=name, body=lines)
    plants.plant(name, source, **{"distribution": f"lossylens-{name}", **arguments})


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lossylens {__version__}\n"


def test_help_lists_every_command(plants, capsys):
    plant_command(plants, "pass")
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in (*core_commands(), "act"):
        assert f" {name} " in printed


@pytest.mark.parametrize("name", LazyCommands())
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"Usage: lossylens {name}" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "owner"), [("report", "report"), ("train", "toolkit")])
def test_a_command_of_a_distribution_that_is_not_there_names_it(plants, capsys, name, owner):
    assert main([name, "x"]) == 2
    assert f"pip install lossylens-{owner}" in capsys.readouterr().err


def test_an_unknown_command_is_answered_with_near_ones(plants, capsys):
    assert main(["plugin"]) == 2
    assert "Did you mean 'plugins'" in capsys.readouterr().err


def test_a_user_error_is_its_message_alone(plants, capsys):
    plant_command(
        plants, "from lossylens.errors import DataError\nraise DataError('row 3: no answer')"
    )
    assert main(["act"]) == 2
    assert capsys.readouterr().err == "lossylens: row 3: no answer\n"


def test_what_the_disk_or_a_path_causes_is_one_line(plants, capsys, tmp_path):
    plant_command(plants, f"open({str(tmp_path / 'absent')!r})")
    assert main(["act"]) == 2
    expected = f"lossylens: {tmp_path / 'absent'}: No such file or directory\n"
    assert capsys.readouterr().err == expected


def test_a_full_disk_is_one_line(plants, capsys):
    plant_command(
        plants, "import errno, os\nraise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))"
    )
    assert main(["act"]) == 2
    assert capsys.readouterr().err == "lossylens: No space left on device\n"


@pytest.mark.parametrize(
    ("body", "error"),
    [("1 / 0", ZeroDivisionError), ("import os; os.close(10**6)", OSError)],
)
def test_a_bug_keeps_its_traceback(plants, body, error):
    plant_command(plants, body)
    with pytest.raises(error):
        main(["act"])


def test_ctrl_c_exits_with_130(plants, capsys):
    plant_command(plants, "raise KeyboardInterrupt")
    assert main(["act"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_exit_code_of_a_command_is_kept(plants):
    plant_command(plants, "import typer\nraise typer.Exit(1)")
    assert main(["act"]) == 1


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_is_no_error(plants, lines):
    plant_command(plants, f"print('x\\n' * {lines})")
    read, write = os.pipe()
    os.close(read)
    code = (
        f"import sys; sys.path.insert(0, {str(plants.folder)!r})\n"
        "from lossylens.cli import main\nsys.exit(main(['act']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_broken_pipe_to_another_process_is_not_hidden(plants):
    plant_command(plants, "raise BrokenPipeError(32, 'Broken pipe')")
    with pytest.raises(RuntimeError, match="pipe to another process"):
        main(["act"])


def test_a_plugin_cannot_take_a_command_of_the_core(plants, capsys):
    plant_command(plants, "print('mine')", name="plugins")
    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    (broken,) = [each for each in listed["plugins"] if each["status"] == "broken"]
    assert broken["error"] == "command 'plugins' of lossylens-plugins is one of the core's"


def test_two_plugins_with_one_command(plants, capsys):
    plant_command(plants, "print('first')", distribution="aaa")
    plant_command(plants, "print('second')", distribution="bbb")
    assert main(["act"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "first\n"
    assert "bbb and aaa both add a command 'act'" in printed.err


def test_a_plugin_that_fails_to_add_commands_keeps_what_else_it_has(plants, capsys):
    plants.plant(
        "half",
        """
        from lossylens.codec import CodecSpec, Level
        from lossylens.hookspecs import hookimpl

        @hookimpl
        def register_codecs(register):
            register(CodecSpec(name="half", summary="", factory="a:B", levels=(Level("x"),)))

        @hookimpl
        def register_commands(app):
            app.command("never")(lambda: None)
            raise RuntimeError("boom")
        """,
    )
    plant_command(plants, "print('fine')")
    assert main(["act"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "fine\n"
    assert "commands of plugin 'half' (lossylens-codec-half) are left out" in printed.err
    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["commands"] == ["act"]
    assert "half" in [each["name"] for each in listed["codecs"]]
    assert main(["doctor"]) == 1
    assert "RuntimeError: boom" in capsys.readouterr().out


def test_plugins_are_listed_whole_when_piped(plants, capsys):
    name = "a-codec-with-a-name-that-is-much-longer-than-a-terminal-is-wide-in-most-cases" * 2
    plants.plant_codec("long", names=(name,))
    plants.plant("broken", "raise RuntimeError('[red]why[/red]')")
    assert main(["plugins"]) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if name in line]
    assert row.split()[:2] == ["codec", name]
    assert row.endswith("lossylens-codec-long 1.0")
    assert (
        "Broken: broken (lossylens-codec-broken 1.0): RuntimeError: [red]why[/red]\n"
    ) in printed


def test_texts_in_piped_tables_go_on_below(plants, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    summary = " ".join(f"word{number}" for number in range(80))
    plants.plant("wordy", CODEC.format(summary=summary))
    for command in (["plugins"], ["plugins", "show", "wordy"]):
        main(command)
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= 90, command
    main(["plugins"])
    printed = capsys.readouterr().out
    assert summary.split() == re.findall(r"word\d+", printed), "nothing is cut"
    assert [line.split()[:3] for line in printed.splitlines() if "codec-wordy" in line] == [
        ["codec", "wordy", "loaded"]
    ]


def test_a_missing_factory_is_marked_without_importing_its_package(plants, capsys):
    package = plants.folder / "planted_heavy"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "there.py").write_text("raise SystemExit('imported')")
    for name in ("there", "absent"):
        source = CODEC.format(summary="s").replace("wordy", name)
        plants.plant(name, source.replace("lossylens:N", f"planted_heavy.{name}:Codec"))
    assert main(["plugins"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[1]: line.split()[2] for line in printed.splitlines() if "codec " in line}
    assert (rows["there"], rows["absent"]) == ("loaded", "broken")
    problem = "there is no module planted_heavy.absent for its factory planted_heavy.absent:Codec"
    assert f"codec 'absent' of absent (lossylens-codec-absent 1.0): {problem}" in printed
    assert main(["plugins", "--json"]) == 0
    codecs = {each["name"]: each for each in json.loads(capsys.readouterr().out)["codecs"]}
    assert codecs["absent"]["error"] == problem
    assert "error" not in codecs["there"]
    assert main(["plugins", "show", "absent"]) == 0
    assert problem in " ".join(capsys.readouterr().out.split())
    assert main(["doctor"]) == 1
    assert problem in " ".join(capsys.readouterr().out.split())


def test_plugins_on_a_terminal_are_a_table(plants, capsys, monkeypatch):
    plants.plant_codec("fine", category="[bold]kind[/bold]")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["plugins"]) == 0
    printed = capsys.readouterr().out
    assert "─" in printed
    assert "fine" in printed
    assert "[bold]" in "".join(printed.split()), "text of plugins is not markup"


def test_plugins_as_json(plants, capsys, monkeypatch):
    plants.plant_codec("fine", aliases=("good",))
    plants.plant("broken", "import no_such_module")
    plants.plant_codec("off")
    monkeypatch.setenv("LOSSYLENS_DISABLE_PLUGINS", "off")
    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {each["name"]: each["status"] for each in listed["plugins"]} == {
        "builtin": "loaded",
        "broken": "broken",
        "fine": "loaded",
        "off": "disabled",
    }
    fine = next(each for each in listed["codecs"] if each["name"] == "fine")
    assert fine == {
        "name": "fine",
        "aliases": ["good"],
        "summary": "a codec",
        "category": "",
        "plugin": "fine",
        "distribution": "lossylens-codec-fine",
        "version": "1.0",
        "levels": ["q1"],
    }
    broken = next(each for each in listed["plugins"] if each["name"] == "broken")
    assert "no_such_module" in broken["error"]
    assert "Traceback" in broken["traceback"]


@pytest.mark.parametrize("command", [["plugins"], ["plugins", "show", "fine"], ["doctor"]])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_wrong_list_is_reported_after_what_can_be_said(
    plants, capsys, monkeypatch, command, form
):
    plants.plant_codec("fine")
    monkeypatch.setenv("LOSSYLENS_DISABLE_PLUGINS", "fien")
    assert main([*command, *form]) == 2
    printed = capsys.readouterr()
    assert "fine" in printed.out
    expected = "LOSSYLENS_DISABLE_PLUGINS names an unknown plugin 'fien'. Did you mean fine?"
    assert printed.err == f"lossylens: {expected}\n"


DETAILED = '''
from dataclasses import dataclass, field
from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing

@dataclass
class Deep:
    url: str = "here"

@dataclass
class Options:
    """What it takes.

    Attributes:
        data: where they are.
        deep: is nested.
    """

    data: str = "???"
    deep: Deep = field(default_factory=Deep)
    speed: int = 3
    folder: str | None = None
    sizes: list[int] = field(default_factory=list)

@dataclass
class Easy:
    path: str = ""

@hookimpl
def register_codecs(register):
    common = dict(factory="lossylens.uncompressed:Uncompressed", levels=(Level("x"),))
    register(CodecSpec(name="detailed", summary="s", citation="Paper, 2020", options=Options,
                       level_help="any xN", **common))
    register(CodecSpec(name="lacking", summary="s", options=Easy, **common,
                       requirements=lambda options: [Missing("a tool", "get it")]))
'''


def test_show_says_all_about_one(plants, capsys):
    plants.plant("detailed", DETAILED)
    assert main(["plugins", "show", "detailed"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    for row in (
        ["citation:", "Paper,", "2020"],
        ["levels:", "x"],
        ["other", "levels:", "any", "xN"],
        ["distribution:", "lossylens-codec-detailed"],
        ["data", "str", "(must", "be", "given)", "where", "they", "are."],
        ["deep", "mapping", "is", "nested."],
        ["deep.url", "str", "here"],
        ["speed", "int", "3"],
        ["folder", "str", "|", "None", "null"],
        ["sizes", "list[int]", "[]"],
    ):
        assert row in rows, row


def test_show_a_broken_plugin_gives_its_traceback(plants, capsys):
    plants.plant("broken", "import no_such_module")
    assert main(["plugins", "show", "lossylens-codec-broken"]) == 0
    printed = capsys.readouterr().out
    assert "No module named 'no_such_module'" in printed
    assert "Traceback" in printed


def test_show_something_unknown(plants, capsys):
    assert main(["plugins", "show", "uncompresed"]) == 2
    expected = "nothing installed is called 'uncompresed'. Did you mean uncompressed?"
    assert capsys.readouterr().err == f"lossylens: {expected}\n"


def test_doctor_lists_what_is_missing_without_failing(plants, capsys):
    plants.plant("detailed", DETAILED)
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    checks = {each["name"]: each for each in report["checks"]}
    assert checks["uncompressed"]["status"] == "ready"
    assert checks["lacking"]["status"] == "missing"
    assert checks["lacking"]["detail"] == "a tool: get it"
    assert checks["detailed"]["status"] == "needs options"
    assert "codecs.detailed.data: must be given" in checks["detailed"]["detail"]
    assert report["machine"]["lossylens"] == __version__
    assert {"python", "cpus", "memory", "disk", "gpus"} <= set(report["machine"])


def test_doctor_fails_for_a_broken_plugin_and_tells_why(plants, capsys):
    plants.plant("broken", "import no_such_module")
    assert main(["doctor"]) == 1
    brief = capsys.readouterr().out
    assert "Broken: broken (lossylens-codec-broken 1.0): ModuleNotFoundError" in brief
    assert "Traceback (most" not in brief
    assert main(["doctor", "--verbose"]) == 1
    assert "Traceback (most" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"factory": "no_such_package.module:Class"},
        {"factory": "lossylens.no_such_module:Class"},
        {"requirements": "ZERO"},
        {"options": "SET"},
    ],
)
def test_doctor_fails_for_what_can_never_be_built(plants, capsys, change):
    source = """
        from dataclasses import dataclass
        from lossylens.codec import CodecSpec, Level
        from lossylens.hookspecs import hookimpl

        @dataclass
        class Set:
            these: set[int] = None

        MEANING = {"ZERO": lambda options: 1 / 0, "SET": Set}

        @hookimpl
        def register_codecs(register):
            given = dict(factory="lossylens.uncompressed:Uncompressed", levels=(Level("x"),))
            given |= {key: MEANING.get(value, value) for key, value in CHANGE.items()}
            register(CodecSpec(name="odd", summary="", **given))
    """
    module = plants.plant("odd", source)
    path = plants.folder / f"{module}.py"
    path.write_text(f"{path.read_text()}\nCHANGE = {change!r}\n")
    assert main(["doctor", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {each["name"]: each["status"] for each in checks if each["kind"] == "codec"} == {
        "odd": "broken",
        "uncompressed": "ready",
    }


HEAVY = ("torch", "transformers", "matplotlib", "numpy", "PIL", "omegaconf", "pydantic", "rich")


def test_listing_plugins_imports_nothing_heavy():
    code = (
        "import sys; from lossylens.cli import main; main(['plugins'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
