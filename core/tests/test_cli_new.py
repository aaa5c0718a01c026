import tomllib
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.cli.new_command import names


def refused(capsys, *arguments):
    assert main(["new", "codec", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "My", "1st", "a--b", "a/b", "../a", "a b", "a-", "ä", "${x}"])
def test_no_name(name, capsys, tmp_path):
    assert "is no name for a plugin" in refused(capsys, "--into", tmp_path, "--", name)
    assert list(tmp_path.iterdir()) == []


def test_taken_by_the_core(capsys, tmp_path):
    said = refused(capsys, "raw", "--into", tmp_path)
    assert said == "lossylens: there is a codec 'raw' already, in lossylens; choose another name\n"


def test_nothing_is_overwritten(capsys, tmp_path):
    (tmp_path / "lossylens-codec-mine").mkdir()
    said = refused(capsys, "mine", "--into", tmp_path)
    assert "lossylens-codec-mine is there already" in said
    assert list((tmp_path / "lossylens-codec-mine").iterdir()) == []


@pytest.mark.parametrize("kind", ["vlm", "task", "adaptor", "result"])
def test_every_kind_refuses_alike(kind, capsys, tmp_path):
    for name, said in (("My", "is no name for a plugin"), ("mine", "is there already")):
        (tmp_path / f"lossylens-{kind}-mine").mkdir(exist_ok=True)
        assert main(["new", kind, name, "--into", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err
    assert list((tmp_path / f"lossylens-{kind}-mine").iterdir()) == []


@pytest.mark.parametrize("kind", ["codec", "vlm", "task", "adaptor", "result"])
@pytest.mark.parametrize("name", ["level", "image", "codec", "my.own_codec-2"])
def test_whatever_the_name_the_modules_compile(kind, name, tmp_path):
    assert main(["new", kind, name, "--into", str(tmp_path)]) == 0
    (project,) = tmp_path.iterdir()
    assert project.name == names(kind, name)["distribution"]
    modules = list(project.rglob("*.py"))
    assert len(modules) == (6 if kind == "adaptor" else 4)
    for module in modules:
        compile(module.read_text(), str(module), "exec")
        assert "${" not in module.read_text()
    assert (project / names(kind, name)["package"] / "py.typed").exists()
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"] == "0.1.0"


def test_class_names_clash_with_nothing():
    assert names("codec", "codec")["class_name"] == "CodecCodec"
    assert names("codec", "level")["class_name"] == "LevelCodec"


def test_templates_are_in_the_package():
    import lossylens.cli.new_command

    assert (
        Path(lossylens.cli.new_command.__file__).parent / "templates/any/pyproject.toml.in"
    ).exists()
