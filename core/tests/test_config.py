"""Configurations: what they mean, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.errors import ConfigError
from lossylens.grid.config import load_config, read_values

GOOD = """
codecs: {blocky: {levels: [b64, b16]}}
vlms: {seer: }
tasks: {patches: {images: 2}}
run: {out: OUT}
"""

# What is wrong: the configuration as (text to replace, replacement), and what the message has.
WRONG = {
    "section": (("vlms:", "vlm:"), ["unknown section 'vlm'", "vlms"]),
    "empty section": (("{seer: }", ""), ["'vlms' is empty", "nano"]),
    "missing section": (("tasks: {patches: {images: 2}}", ""), ["'tasks' is missing"]),
    "list section": (("{seer: }", "[seer]"), ["vlms: expected a mapping"]),
    "codec": (("blocky:", "blokcy:"), ["codecs.blokcy: unknown codec 'blokcy'", "blocky"]),
    "vlm": (("seer:", "sear:"), ["vlms.sear: unknown vlm", "seer"]),
    "task": (("patches:", "pathces:"), ["tasks.pathces: unknown task", "patches"]),
    "kind": (("seer:", "blocky:"), ["vlms.blocky", "There is a codec of that name"]),
    "plugin key": (("{seer: }", "{x: {plugin: sear}}"), ["vlms.x.plugin", "seer"]),
    "plugin type": (("{seer: }", "{x: {plugin: 3}}"), ["vlms.x.plugin: expected the name"]),
    "level": (("b16]", "b16, x9]"), ["codecs.blocky.levels[2]", "'x9'", "bN"]),
    "level type": (("b16]", "16]"), ["codecs.blocky.levels[1]", "such as b64", "got 16"]),
    "level twice": (("b16]", "B64]"), ["codecs.blocky.levels[1]", "twice"]),
    "levels type": (("[b64, b16]", "b64"), ["codecs.blocky.levels: expected a list", "[b64, b16]"]),
    "level set": (("[b64, b16]", "for-patch"), ["or one of for-patches, got 'for-patch'"]),
    "no levels": (("[b64, b16]", "[]"), ["codecs.blocky.levels: expected a list"]),
    "option": (("images:", "imagse:"), ["tasks.patches.imagse", "images"]),
    "option type": (
        ("images: 2", "images: two"),
        ["tasks.patches.images", "whole number", "'two'"],
    ),
    "options type": (("{images: 2}", "2"), ["tasks.patches: expected a mapping", "got 2"]),
    "run key": (("out:", "worker: 2, out:"), ["run.worker", "workers"]),
    "run type": (("out:", "limit: many, out:"), ["run.limit", "whole number", "null", "'many'"]),
    "run range": (("out:", "workers: 0, out:"), ["run.workers: expected at least 1"]),
    "executor": (("out:", "executor: locla, out:"), ["run.executor", "local"]),
    "no out": (("out: OUT", "limit: 1"), ["run.out is missing"]),
    "out is null": (("out: OUT", "out: null"), ["run.out", "path"]),
    "out is a file": (("OUT", "config.yaml"), ["run.out", "is not a folder"]),
    "out in a file": (("OUT", "config.yaml/run"), ["run.out", "is not a folder"]),
    "adaptor": (("run:", "adaptors: {darkne: }\nrun:"), ["adaptors.darkne", "darken"]),
    "no adaptor": (("run:", "adaptors: {none: {a: 1}}\nrun:"), ["adaptors.none", "no options"]),
    "plugin list": (("run:", "plugins: {only: [smaple]}\nrun:"), ["plugins.only", "sample"]),
    "plugins key": (("run:", "plugins: {onyl: []}\nrun:"), ["plugins.onyl", "only"]),
    "same plugin": (("b16]}", "b16]}, blk: {levels: [b8]}"), ["codecs.blk", "codecs.blocky"]),
    "same options": (
        ("b16]}", "b16]}, again: {plugin: blk, levels: [b16]}"),
        ["codecs.again: the same plugin with the same options as codecs.blocky"],
    ),
    "duplicate key": (("{images: 2}", "{images: 2, images: 3}"), ["config.yaml, line 4", "images"]),
    "syntax": (("{images: 2}}", "{images: 2}"), ["config.yaml, line 5, column 1"]),
    "tab": (("run:", "\trun:"), ["config.yaml, line 5"]),
    "environment": (("OUT", "'${oc.env:NOT_THERE}'"), ["run.out", "NOT_THERE"]),
    "interpolation": (("OUT", "'${nowhere}'"), ["run.out", "nowhere"]),
    "number as key": (("seer:", "3:"), ["vlms.3: expected a name"]),
    "data": (("images: 2", "troubles: malformed"), ["row 3, column answer"]),
    "no data": (("images: 2", "images: 0"), ["tasks.patches: the task has no samples"]),
}


@pytest.fixture
def folder(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_config_is_one_line_and_writes_nothing(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (old, new), expected = WRONG[case]
    assert old in GOOD
    (folder / "config.yaml").write_text(GOOD.replace(old, new, 1))
    assert main(["run", "config.yaml"]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("lossylens: ")
    for part in expected:
        assert part in complaint
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("run.limit", "expected key=value"),
        ("=3", "expected key=value"),
        ("run.limit=[1", "malformed value"),
        ("run.out.folder=x", "run.out is not a mapping"),
        ("runs.limit=3", "unknown section 'runs'. Did you mean run"),
        ("codecs.blocky.levels=[q1]", "codecs.blocky.levels[0]"),
        ("vlms.seer.salt=pepper", "vlms.seer.salt: expected a whole number"),
    ],
)
def test_a_wrong_override_is_named(
    override: str, expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "config.yaml", override]) == 2
    assert expected in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"just text", b"\xff\xfe\x00", b"a: \x07"])
def test_what_is_no_config_is_refused(
    content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.yaml").write_bytes(content)
    assert main(["run", "config.yaml"]) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_a_config_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nothing.yaml"]) == 2
    assert (
        capsys.readouterr().err
        == "lossylens: cannot read nothing.yaml: No such file or directory\n"
    )


def test_uncompressed_is_added_unless_unwanted(folder: Path) -> None:
    path = folder / "config.yaml"
    assert [each.label for each in load_config(path).codecs] == ["uncompressed", "blocky"]
    alone = load_config(path, ["run.uncompressed=false"])
    assert [each.label for each in alone.codecs] == ["blocky"]
    once = load_config(path, ["codecs.raw=null"])
    assert [each.label for each in once.codecs] == ["blocky", "uncompressed"]


def test_one_plugin_with_two_sets_of_options(folder: Path) -> None:
    config = load_config(
        folder / "config.yaml", ["codecs.shifted={plugin: blocky, offset: 3, levels: [b8]}"]
    )
    shifted = config.codecs[-1]
    assert (shifted.label, shifted.spec.name, shifted.options.offset) == ("shifted", "blocky", 3)
    assert [level.parameters for level in shifted.levels] == [{"step": 8}]


def test_an_alias_gets_the_canonical_name_and_absent_levels_the_published(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(GOOD.replace("blocky: {levels: [b64, b16]}", "BLK: "))
    codec = load_config(path).codecs[1]
    assert codec.label == "blocky"
    assert [level.name for level in codec.levels] == ["b64", "b16"]


def test_levels_by_the_name_of_a_set(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(GOOD.replace("[b64, b16]", "For_Patches"))
    assert [level.name for level in load_config(path).codecs[1].levels] == ["b16", "b4"]


def test_adaptors(folder: Path) -> None:
    path = folder / "config.yaml"
    assert load_config(path).adaptors == ()
    # The VLM as it is, which is there in any case, may be named.
    [one] = load_config(path, ["adaptors={none: null, darken: {by: 3}}"]).adaptors
    assert one.options.by == 3
    with pytest.raises(ConfigError, match=r"run.baseline: false needs adaptors"):
        load_config(path, ["run.baseline=false"])


def test_executors(folder: Path) -> None:
    path = folder / "config.yaml"
    assert load_config(path).executor.spec.name == "local"
    assert load_config(path, ["run.executor={plugin: local}"]).executor.spec.name == "local"
    with pytest.raises(ConfigError, match=r"run.executor: unknown executor 'locale'. Did you mean"):
        load_config(path, ["run.executor=locale"])
    with pytest.raises(ConfigError, match="expected the name of an executor"):
        load_config(path, ["run.executor=[local]"])


def test_override_of_a_key_with_dots(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("codecs: {a: }\nvlms: {q2.5-3b: {device: cpu}}\ntasks: {a: }\nrun: {out: o}")
    values = read_values(path, ["vlms.q2.5-3b.device=cuda", "vlms.q2.5-3b.more.deep=[1, b]"])
    assert values["vlms"] == {"q2.5-3b": {"device": "cuda", "more": {"deep": [1, "b"]}}}


def test_references_and_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "there")
    path = folder / "config.yaml"
    config = load_config(path, ["run.out=${oc.env:WHERE}/${vlms.seer.salt}", "vlms.seer.salt=8"])
    assert config.run.out == Path.cwd() / "there/8"


def test_home_is_expanded(folder: Path) -> None:
    config = load_config(folder / "config.yaml", ["run.out=~/x"])
    assert config.run.out == Path.home() / "x"


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"run\.out: cannot write to"):
        load_config(folder / "config.yaml")
