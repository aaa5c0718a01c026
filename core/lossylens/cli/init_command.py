"""``lossylens init``: three questions, and a configuration to begin with."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from lossylens.errors import ConfigError

if TYPE_CHECKING:
    from lossylens.registry.plugins import Registered, Registry

#: Levels of a codec that are written.
_FEW = 4

#: What is suggested, as far as it is installed.
_SUGGESTED = {"vlm": ("nano",), "task": ("scenes",), "codec": ("jpeg", "webp")}

_QUESTIONS = {
    "vlm": "Which VLM is to look at the images",
    "task": "Which tasks is it to be asked",
    "codec": "Which codecs are to compress the images",
}


def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Configuration to write.")] = Path(
        "lossylens.yaml"
    ),
    vlm: Annotated[
        list[str] | None, typer.Option(help="Answer to the first question; can be repeated.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="To the second, likewise.")] = None,
    codec: Annotated[list[str] | None, typer.Option(help="To the third, likewise.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing; take what is suggested.")
    ] = False,
) -> None:
    """Ask three questions and write a configuration with comments for `lossylens run`.

    What is answered by an option is not asked.
    """
    from lossylens.cli.single_files import write_output
    from lossylens.registry.plugins import load_registry

    # A plugin may change the working directory.
    target = path.absolute()
    if target.exists():
        raise ConfigError(f"{path} is there already; name another file")
    if not target.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")
    registry = load_registry(strict=False)
    given = {"vlm": vlm, "task": task, "codec": codec}
    chosen = {
        kind: _chosen(registry, kind, names or _answer(registry, kind, yes))
        for kind, names in given.items()
    }
    text = "\n".join(_lines(registry, chosen, target.stem))
    write_output(target, f"{text}\n".encode())
    typer.echo(f"{path} is written. Next: lossylens run {shlex.quote(str(path))} --dry-run")


def _answer(registry: Registry, kind: str, yes: bool) -> list[str]:
    """Ask which plugins of a kind it shall be.

    Raises:
        ConfigError: nobody can be asked.
    """
    installed = [each.spec.name for each in registry.all(kind)]
    suggested = [name for name in _SUGGESTED[kind] if name in installed] or installed[:1]
    if not installed:
        raise ConfigError(f"no {kind} is installed: install the plugin of one first")
    if yes:
        return suggested
    if not sys.stdin.isatty():
        raise ConfigError(
            f"nobody can be asked here: give --vlm, --task and --codec, or --yes for"
            f" {', '.join(suggested)}"
        )
    typer.echo(f"Installed: {', '.join(installed)}", err=True)
    text = typer.prompt(_QUESTIONS[kind], default=" ".join(suggested), err=True)
    return str(text).replace(",", " ").split()


def _chosen(registry: Registry, kind: str, names: Sequence[str]) -> list[Registered[Any]]:
    found = [registry.find(kind, name) for name in names]
    return list({each.spec.name: each for each in found}.values())


def _lines(
    registry: Registry, chosen: dict[str, list[Registered[Any]]], name: str
) -> Iterator[str]:
    yield "# A run of lossylens. `lossylens config` lists all keys, `lossylens plugins show NAME`"
    yield "# the options of a plugin; `lossylens run FILE KEY=VALUE` changes one for once."
    yield ""
    yield "# Each codec compresses every image at each of its levels; the images as they are come"
    yield "# without being named."
    yield "codecs:"
    for each in chosen["codec"]:
        levels = _levels(each.spec)
        yield from _entry(each, *([f"levels: [{', '.join(map(_yaml, levels))}]"] if levels else []))
        yield from _needs(registry, each)
    yield ""
    yield "# What looks at the images: as they are decoded, never compressed again."
    yield "vlms:"
    for each in chosen["vlm"]:
        yield from _entry(each)
        yield from _needs(registry, each)
    yield ""
    yield "tasks:"
    for each in chosen["task"]:
        yield from _entry(each)
    yield ""
    yield "run:"
    yield "  # Where everything is kept; the same folder again goes on with what is there."
    yield f"  out: {_yaml(f'runs/{name}')}"
    yield "  # Images per task, for a first try; remove the line for all of them."
    yield "  limit: 20"


def _yaml(text: str) -> str:
    """Return *text* as YAML that is read as it: in quotes where it would be something else."""
    plain = re.fullmatch(r"[a-zA-Z][\w./-]*", text, re.ASCII) and isinstance(
        yaml.safe_load(text), str
    )
    return text if plain else json.dumps(text, ensure_ascii=False)


def _levels(spec: Any) -> list[str]:
    """Return the levels of a codec: four of them, evenly spaced, at most."""
    names = [level.name for level in spec.levels]
    if len(names) <= _FEW:
        return names
    return [names[round(place * (len(names) - 1) / (_FEW - 1))] for place in range(_FEW)]


def _entry(found: Registered[Any], *lines: str) -> Iterator[str]:
    """Yield the entry of a plugin: what it needs to be told, and as comments what it can be."""
    from lossylens.options.optiondocs import option_docs

    yield f"  # {found.spec.summary}"
    yield f"  {found.spec.name}:"
    for line in lines:
        yield f"    {line}"
    for each in option_docs(found.spec.options):
        key = each.name.rpartition(".")[2]
        if each.required:
            yield f"    # {each.type}: {each.text}"
            yield f"    {key}: ???  # to be filled in"


def _needs(registry: Registry, found: Registered[Any]) -> Iterator[str]:
    """Yield a comment where weights are missing that can be got."""
    from lossylens.registry.checkup import check_plugin

    if any(each.source for each in check_plugin(registry, found).missing):
        yield f"    # its weights are not here yet: lossylens fetch {found.spec.name}"
