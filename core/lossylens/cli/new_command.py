"""``lossylens new``: a ready plugin project.

A project is made of two folders of templates in ``templates/``, that of its kind and ``any``:
files whose names end in ``.in`` have their ``${...}`` filled in, and the folder ``package``
gets the name of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from string import Template
from typing import Annotated

import typer

from lossylens import __version__
from lossylens.errors import ConfigError
from lossylens.names import canonical

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Make a plugin project that is ready to use."
)

_NAME = re.compile(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*")
_SUFFIX = ".in"

_TOOLKIT = "lossylens-toolkit{extras}>=" + __version__

#: What a project of each kind is called, what it depends on, and what its tests need beside
#: the conformance suite.
_KINDS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "codec": ("a codec", ("numpy", "pillow"), ()),
    "vlm": ("a VLM", ("pillow",), ()),
    "task": ("a task", (_TOOLKIT.format(extras=""),), ()),
    "adaptor": (
        "an adaptor",
        (_TOOLKIT.format(extras="[training,transformers-vlm]"),),
        ("lossylens-codec-jpeg", "lossylens-vlm-nano"),
    ),
    "result": ("published results", (), ()),
}


@app.callback()
def _new() -> None:
    """Make a plugin project that is ready to use."""


_Into = Annotated[Path, typer.Option(help="Folder in which the folder of the project is made.")]


@app.command()
def codec(
    name: Annotated[str, typer.Argument(help="Name of the codec, such as my-codec.")],
    into: _Into = Path(),
) -> None:
    """Make a codec plugin that passes the conformance suite as it is."""
    make_project("codec", name, into)


@app.command()
def vlm(
    name: Annotated[str, typer.Argument(help="Name of the VLM, such as my-model.")],
    into: _Into = Path(),
) -> None:
    """Make a VLM plugin that passes the conformance suite as it is."""
    make_project("vlm", name, into)


@app.command()
def task(
    name: Annotated[str, typer.Argument(help="Name of the task, such as my-benchmark.")],
    into: _Into = Path(),
) -> None:
    """Make a task plugin that passes the conformance suite as it is."""
    make_project("task", name, into)


@app.command()
def adaptor(
    name: Annotated[str, typer.Argument(help="Name of the adaptor, such as my-method.")],
    into: _Into = Path(),
) -> None:
    """Make an adaptor plugin, with its training, that passes the conformance suite as it is."""
    make_project("adaptor", name, into)


@app.command()
def result(
    name: Annotated[str, typer.Argument(help="Name of the results, such as my-paper.")],
    into: _Into = Path(),
) -> None:
    """Make a plugin of published results, which reports lay beside runs."""
    make_project("result", name, into)


def make_project(kind: str, name: str, into: Path) -> None:
    """Write the project of a plugin *name* to a folder of its own in *into*.

    Raises:
        ConfigError: the name is none, or taken; the folder is there already or
            cannot be written.
    """
    values = names(kind, name)
    _check_free(kind, values["name"])
    project = into / values["distribution"]
    if project.exists():
        raise ConfigError(f"{project} is there already; name another, or remove it")
    templates = resources.files(__package__) / "templates"
    for folder in ("any", kind):
        for path, content in filled(templates / folder, values):
            target = project / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
    print(f"{project}: where lossylens is installed, install and test it with")
    print(f"  cd {project} && pip install -e '.[test]' && pytest")


def names(kind: str, name: str) -> dict[str, str]:
    """Return what the templates call a plugin *name*.

    Raises:
        ConfigError: it is no name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a plugin; use lower-case letters and digits, with single"
            " hyphens between them, such as my-codec"
        )
    stem = canonical(name)
    what, dependencies, test = _KINDS[kind]
    class_name = "".join(part.capitalize() for part in stem.split("-"))
    return {
        "name": stem,
        "distribution": f"lossylens-{kind}-{stem}",
        "package": f"lossylens_{kind}_{stem.replace('-', '_')}",
        # No name that is imported beside it, such as Level.
        "class_name": f"{class_name}{kind.capitalize()}",
        "magic": f"{stem[:4]:_<4}".upper(),
        "what": what,
        "dependencies": _listed(f"lossylens>={__version__}", *dependencies),
        "test": _listed("lossylens[testing]", *test),
    }


def _listed(*requirements: str) -> str:
    return ", ".join(f'"{each}"' for each in requirements)


def _check_free(kind: str, name: str) -> None:
    from lossylens.registry.plugins import load_registry

    for found in load_registry(strict=False).all(kind):
        if canonical(name) in map(canonical, (found.spec.name, *found.spec.aliases)):
            owner = found.plugin.distribution
            raise ConfigError(
                f"there is a {kind} {name!r} already, in {owner}; choose another name"
            )


def filled(folder: Traversable, values: Mapping[str, str]) -> Iterator[tuple[PurePosixPath, str]]:
    """Yield path and content of each file that the templates in *folder* make."""
    for entry in folder.iterdir():
        if entry.is_dir():
            name = values["package"] if entry.name == "package" else entry.name
            for path, content in filled(entry, values):
                yield name / path, content
            continue
        content = entry.read_text(encoding="utf-8")
        if entry.name.endswith(_SUFFIX):
            content = Template(content).substitute(values)
        yield PurePosixPath(entry.name.removesuffix(_SUFFIX)), content
