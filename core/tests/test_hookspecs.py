"""The hooks are documented as they are."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from lossylens import hookspecs

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("register_")}


@pytest.mark.parametrize("name", HOOKS)
def test_contributing_gives_every_hook_with_its_arguments(name: str) -> None:
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    assert f"| `{name}({arguments})` |" in CONTRIBUTING.read_text(encoding="utf-8")


def test_contributing_names_no_other_hook() -> None:
    documented = re.findall(r"\| `(register_\w+)\(", CONTRIBUTING.read_text(encoding="utf-8"))
    assert sorted(documented) == sorted(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_hook_docstring_says_since_when_and_what_each_argument_is(name: str) -> None:
    text = inspect.getdoc(HOOKS[name]) or ""
    assert ".. versionadded::" in text
    for argument in inspect.signature(HOOKS[name]).parameters:
        assert f":param {argument}:" in text
