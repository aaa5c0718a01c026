"""``lossylens config``: what a configuration can say, and what one says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lossylens.grid.config import AdaptorChoice, Choice, Config
    from lossylens.options.optiondocs import OptionDoc

#: Stands for the name of an entry in keys.
NAME = "NAME"


class Section(StrEnum):
    """The sections of a configuration."""

    run = "run"
    plugins = "plugins"
    codecs = "codecs"
    vlms = "vlms"
    tasks = "tasks"
    adaptors = "adaptors"


def config(
    path: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Configuration, a YAML file.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as run.limit=10."),
    ] = None,
    section: Annotated[
        list[Section] | None,
        typer.Option(help="Show this section alone; can be repeated."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table or YAML.")
    ] = False,
) -> None:
    """List all keys of a configuration with types, defaults and what they are for.

    With the name of a file, check it and print it as YAML with all defaults filled in;
    what is printed is a configuration again.
    """
    chosen = section or list(Section)
    if path is None:
        _list(chosen, as_json)
    else:
        _show(path, overrides or [], chosen, as_json)


_COLUMNS = ("key", "type", "default", "meaning")


def _list(sections: list[Section], as_json: bool) -> None:
    from lossylens.cli.terminal_tables import print_table

    if as_json:
        keys = [
            dict(zip(_COLUMNS, row, strict=True))
            for section in sections
            for row in (*_own_rows(section), *_plugin_rows(section))
        ]
        print(json.dumps({"keys": keys}, indent=2, ensure_ascii=False))
        return
    for number, section in enumerate(sections):
        print("\n" if number else "", end="")
        print_table(_COLUMNS, [*_own_rows(section), *_plugin_rows(section)])


def _own_rows(section: str) -> Iterator[tuple[str, str, str, str]]:
    for each in section_docs(section):
        yield each.name, each.type, each.shown, each.text


def section_docs(section: str) -> Iterator[OptionDoc]:
    """Yield the keys of a section, but for the options of plugins."""
    from lossylens.grid.config import PLUGIN_SECTIONS, SETTINGS
    from lossylens.options.optiondocs import option_docs

    if section in SETTINGS:
        yield from option_docs(SETTINGS[section], f"{section}.")
    else:
        _, entry = PLUGIN_SECTIONS[section]
        yield from option_docs(entry, f"{section}.{NAME}.")


def _plugin_rows(section: str) -> Iterator[tuple[str, str, str, str]]:
    from lossylens.grid.config import PLUGIN_SECTIONS
    from lossylens.options.optiondocs import option_docs
    from lossylens.registry.plugins import load_registry

    if section not in PLUGIN_SECTIONS:
        return
    kind, _ = PLUGIN_SECTIONS[section]
    for found in load_registry(strict=False).all(kind):
        key = f"{section}.{found.spec.name}"
        yield key, "mapping", "", found.spec.summary
        for each in option_docs(found.spec.options, f"{key}."):
            yield each.name, each.type, each.shown, each.text


def _show(path: Path, overrides: list[str], sections: list[Section], as_json: bool) -> None:
    import yaml

    from lossylens.grid.config import load_config

    everything = as_values(load_config(path, overrides))
    values = {name: content for name, content in everything.items() if name in sections}
    if as_json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


def as_values(config: Config) -> dict[str, Any]:
    """Return a checked configuration as its file would have it, with all defaults."""
    from lossylens.store.jsonable import plain

    values: dict[str, Any] = {
        "codecs": {
            each.label: {"levels": [level.name for level in each.levels], **_entry(each)}
            for each in config.codecs
        },
        "vlms": {each.label: _entry(each) for each in config.vlms},
        "tasks": {each.label: _entry(each) for each in config.tasks},
        "adaptors": {each.label: {**_entry(each), **_points(each)} for each in config.adaptors},
        "run": dataclasses.asdict(config.run),
    }
    if config.values.get("plugins"):
        values["plugins"] = config.values["plugins"]
    plain_values: dict[str, Any] = plain(values)
    return plain_values


def _points(choice: AdaptorChoice) -> dict[str, Any]:
    return {} if choice.points is None else {"points": choice.points}


def _entry(choice: Choice[Any]) -> dict[str, Any]:
    named = {} if choice.label == choice.spec.name else {"plugin": choice.spec.name}
    return {**named, **dataclasses.asdict(choice.options)}
