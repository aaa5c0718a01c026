"""Command lines of trainings, made of the dataclasses of their settings."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any


def settings_parser(settings: Any, about: str | None) -> argparse.ArgumentParser:
    """Return a parser in which every field of the dataclass *settings* is an option.

    The field ``out`` is a folder that must be given; the others have defaults.

    Args:
        settings: the dataclass.
        about: description of the training, printed as it is.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    for field in fields(settings):
        if field.name == "out":
            continue
        option = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=field.default
            )
        else:
            parser.add_argument(option, type=type(field.default), default=field.default)
    return parser
