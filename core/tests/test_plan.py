"""The grid, and the keys that decide what is done again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lossylens.grid.config import Config
from lossylens.grid.plan import Plan, make_plan
from lossylens.store.jsonable import plain

MakeConfig = Callable[..., Config]


def keys(plan: Plan) -> dict[str, str]:
    return {str(cell): cell.key for cell in plan.cells}


def test_the_grid(make_config: MakeConfig) -> None:
    plan = make_plan(make_config("adaptors={none: null, darken: null}", "run.uncompressed=false"))
    assert list(keys(plan)) == [
        "seer, blocky b64, patches",
        "seer, blocky b16, patches",
        "seer with darken, blocky b64, patches",
        "seer with darken, blocky b16, patches",
    ]
    assert len(set(keys(plan).values())) == 4


def test_equal_configurations_have_equal_keys(make_config: MakeConfig) -> None:
    assert keys(make_plan(make_config())) == keys(make_plan(make_config("run.workers=2")))


@pytest.mark.parametrize(
    "override",
    [
        "codecs.blocky.offset=1",
        "vlms.seer.salt=1",
        "tasks.patches.seed=2",
        "run.evaluator_parity=true",
    ],
)
def test_a_changed_option_changes_the_keys(make_config: MakeConfig, override: str) -> None:
    before, after = make_plan(make_config()), make_plan(make_config(override))
    changed = {cell.key for cell in before.cells} - {cell.key for cell in after.cells}
    # Those of `uncompressed` do not depend on the options of another codec.
    assert len(changed) == (2 if override.startswith("codecs") else 3)


@pytest.mark.parametrize(("variable", "cells"), [("SAMPLE_WEIGHTS", 3), ("SAMPLE_DATA", 3)])
def test_changed_provenance_changes_the_keys(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, variable: str, cells: int
) -> None:
    before = make_plan(make_config())
    monkeypatch.setenv(variable, "other")
    after = make_plan(make_config())
    assert len({each.key for each in before.cells} - {each.key for each in after.cells}) == cells


def test_a_key_does_not_depend_on_the_label(make_config: MakeConfig) -> None:
    labelled = "vlms={looker: {plugin: seer}}"
    before, after = make_plan(make_config()), make_plan(make_config(labelled))
    assert [each.key for each in before.cells] == [each.key for each in after.cells]
    assert after.cells[0].vlm == "looker"


def test_plain() -> None:
    from lossylens.vlm import QuestionKind

    value = {"a": (1, 2.5, None, True), "b": QuestionKind.OPEN, 3: object}
    assert plain(value) == {"a": [1, 2.5, None, True], "b": "open", "3": "<class 'object'>"}
