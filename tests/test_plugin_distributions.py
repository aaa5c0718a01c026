"""Plugins as users meet them: real distributions, installed by pip, seen by the command line.

A good one is listed, found and used, while others beside it are broken at
import, raise in their hook, clash, misspell a hook, or need a newer core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow

REGISTER = """
from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl

def codec(name):
    return CodecSpec(
        name=name,
        summary="turns colours round",
        factory="throwaway_good.codec:Inverted",
        levels=(Level("q1"),),
    )
"""

#: Entry-point name: (distribution, what it requires, files of its package).
PLUGINS = {
    "inverted": (
        "throwaway-good",
        "lossylens>=0.1",
        {
            "plugin.py": REGISTER
            + """
@hookimpl
def register_codecs(register):
    register(codec("inverted"))

@hookimpl
def register_commands(app):
    @app.command()
    def greet() -> None:
        "Greet."
        print("hello")
""",
            "codec.py": """
from PIL import ImageOps
from lossylens.uncompressed import Uncompressed

class Inverted(Uncompressed):
    def encode(self, image):
        return super().encode(ImageOps.invert(image))

    def decode(self, bitstream):
        return ImageOps.invert(super().decode(bitstream))
""",
        },
    ),
    "unimportable": (
        "throwaway-unimportable",
        "lossylens>=0.1",
        {"plugin.py": "import a_module_that_nobody_has"},
    ),
    "raising": (
        "throwaway-raising",
        "lossylens>=0.1",
        {
            "plugin.py": REGISTER
            + """
@hookimpl
def register_codecs(register):
    register(codec("half-registered"))
    raise ValueError("inside the hook")
"""
        },
    ),
    "clashing": (
        "throwaway-zclashing",
        "lossylens>=0.1",
        {
            "plugin.py": REGISTER
            + """
@hookimpl
def register_codecs(register):
    register(codec("innocent"))
    register(codec("Inverted".lower()))
"""
        },
    ),
    "misspelt": (
        "throwaway-misspelt",
        "lossylens>=0.1",
        {
            "plugin.py": REGISTER
            + """
@hookimpl
def register_codec(register):
    register(codec("misspelt"))
"""
        },
    ),
    "futuristic": (
        "throwaway-futuristic",
        "lossylens>=9",
        {"plugin.py": "raise AssertionError('imported, though it needs another core')"},
    ),
}

#: What is said of each broken one.
CAUSES = {
    "unimportable": "ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
    "raising": "ValueError: inside the hook",
    "clashing": "codec 'inverted' of throwaway-zclashing and codec 'inverted' of throwaway-good",
    "misspelt": "unknown hook 'register_codec'. Did you mean register_codecs",
    "futuristic": "needs lossylens >=9, this is",
}

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "0.3"
dependencies = ["{requires}"]

[project.entry-points.lossylens]
{name} = "{package}.plugin"

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""


def write_project(folder: Path, name: str) -> Path:
    distribution, requires, files = PLUGINS[name]
    package = distribution.replace("-", "_")
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    for file, source in files.items():
        (folder / package / file).write_text(textwrap.dedent(source))
    settings = {"distribution": distribution, "requires": requires, "name": name}
    (folder / "pyproject.toml").write_text(PROJECT.format(package=package, **settings))
    return folder


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command line in a new environment with the core and all these plugins."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    windows = os.name == "nt"
    python = folder / ("Scripts/python.exe" if windows else "bin/python")
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # The dependencies are taken from this environment, so that nothing is downloaded.
    here = sysconfig.get_path("purelib")
    (Path(packages) / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    projects = [write_project(tmp_path_factory.mktemp(name), name) for name in PLUGINS]
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        # The core is already there, from this environment; its own copy is what is tested.
        [python, "-m", "pip", *install, "--ignore-installed", ROOT / "core", *projects],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return python.with_name("lossylens")


def call(program: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOSSYLENS_")}
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment | variables,
    )


def listed(program: Path, **variables: str) -> dict[str, dict]:
    done = call(program, "plugins", "--json", **variables)
    assert done.returncode == 0, done.stderr
    return {each["name"]: each for each in json.loads(done.stdout)["plugins"]}


def test_the_core_under_test_is_the_one_that_was_installed(program):
    code = "import lossylens; print(lossylens.__file__)"
    done = subprocess.run(
        [program.with_name("python"), "-c", code], check=True, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(program.parents[1])


def test_plugins_lists_the_good_one_and_the_causes_of_the_others(program):
    done = call(program, "plugins")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    (row,) = [line for line in lines if line.split()[:2] == ["codec", "inverted"]]
    assert row.endswith("throwaway-good 0.3")
    for name, cause in CAUSES.items():
        (line,) = [each for each in done.stdout.splitlines() if each.startswith(f"Broken: {name} ")]
        assert PLUGINS[name][0] in line
        assert cause in line
    assert "innocent" not in done.stdout
    assert "half-registered" not in done.stdout


def test_plugins_as_json_has_error_and_traceback_of_each(program):
    plugins = listed(program)
    assert plugins["inverted"]["status"] == "loaded"
    for name, cause in CAUSES.items():
        assert plugins[name]["status"] == "broken"
        assert plugins[name]["distribution"] == PLUGINS[name][0]
        assert plugins[name]["version"] == "0.3"
        assert cause in plugins[name]["error"]
        assert "Traceback (most recent call last)" in plugins[name]["traceback"]


def test_doctor_fails_and_names_each_broken_one(program):
    done = call(program, "doctor", "--verbose")
    assert done.returncode == 1
    for name, cause in CAUSES.items():
        assert f"Broken: {name} ({PLUGINS[name][0]} 0.3): {cause}" in done.stdout
    assert 'raise ValueError("inside the hook")' in done.stdout


def test_doctor_is_content_where_the_broken_ones_are_excluded(program):
    done = call(program, "doctor", LOSSYLENS_PLUGINS="throwaway-good")
    assert done.returncode == 0, done.stdout
    assert "Disabled by LOSSYLENS_PLUGINS: raising (throwaway-raising 0.3)" in done.stdout


def test_the_good_one_is_used(program, tmp_path):
    picture, bitstream, decoded = (tmp_path / name for name in ("a.png", "a.bin", "b.png"))
    Image.linear_gradient("L").convert("RGB").save(picture)
    done = call(program, "encode", "Inverted", "q1", picture, bitstream)
    assert done.returncode == 0, done.stderr
    # What the codec wrote is what its class makes of the picture: white first.
    assert bitstream.read_bytes()[13:16] == b"\xff\xff\xff"
    done = call(program, "decode", "throwaway-good/inverted", "q1", bitstream, decoded)
    assert done.returncode == 0, done.stderr
    assert Image.open(decoded).tobytes() == Image.open(picture).tobytes()


def test_its_command_works_though_others_are_broken(program):
    done = call(program, "greet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


@pytest.mark.parametrize("name", CAUSES)
def test_needing_a_broken_one_names_it_its_distribution_and_its_cause(program, tmp_path, name):
    picture = tmp_path / "a.png"
    Image.new("RGB", (2, 2)).save(picture)
    # The clashing one is asked for by its plugin, because its codec's name is the good one's.
    wanted = f"{name}/inverted" if name == "clashing" else name
    done = call(program, "encode", wanted, "q1", picture, tmp_path / "a.bin")
    assert done.returncode == 2
    assert f"Plugin {name} ({PLUGINS[name][0]} 0.3)" in done.stderr
    assert CAUSES[name] in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_allow_list(program):
    plugins = listed(program, LOSSYLENS_PLUGINS="inverted,throwaway_raising")
    loaded = {name for name, each in plugins.items() if each["status"] != "disabled"}
    assert loaded == {"builtin", "inverted", "raising"}


def test_empty_allow_list_leaves_the_core(program):
    plugins = listed(program, LOSSYLENS_PLUGINS="")
    assert {name for name, each in plugins.items() if each["status"] == "loaded"} == {"builtin"}


def test_deny_list(program):
    plugins = listed(program, LOSSYLENS_DISABLE_PLUGINS="inverted")
    assert plugins["inverted"]["status"] == "disabled"
    assert plugins["clashing"]["status"] == "loaded", "nothing is left to clash with"
    assert plugins["raising"]["status"] == "broken"


@pytest.mark.parametrize("variable", ["LOSSYLENS_PLUGINS", "LOSSYLENS_DISABLE_PLUGINS"])
@pytest.mark.parametrize(
    "command", [["plugins"], ["plugins", "--json"], ["doctor"], ["encode", "raw", "raw", "a", "b"]]
)
def test_an_unknown_name_in_a_list_is_an_error(program, variable, command):
    done = call(program, *command, **{variable: "invertd"})
    assert done.returncode == 2
    expected = f"{variable} names an unknown plugin 'invertd'. Did you mean inverted?"
    assert done.stderr == f"lossylens: {expected}\n"
    if command[0] in ("plugins", "doctor"):
        assert "uncompressed" in done.stdout
