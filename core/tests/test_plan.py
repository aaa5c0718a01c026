"""The grid, and the keys that decide what is done again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lossylens.errors import ConfigError
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


def test_an_adaptor_is_measured_where_it_is_to_be(make_config: MakeConfig) -> None:
    everywhere = make_plan(make_config("adaptors={darken: null}"))
    plan = make_plan(make_config("adaptors={darken: {points: {blocky: [b16]}}}"))
    adapted = [cell for cell in plan.cells if cell.adaptor == "darken"]
    assert [(cell.codec, cell.level) for cell in adapted] == [
        ("uncompressed", "raw"),
        ("blocky", "b16"),
    ]
    # The configuration leaves the others out itself, so that nobody is told of them.
    assert not list(plan.absences)
    assert set(plan.cells) <= set(everywhere.cells)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("{blocki: [b16]}", "adaptors.darken.points.blocki: not among the codecs. Did you mean"),
        ("{blocky: [b4]}", "points.blocky: b4 is not among its levels, b64, b16"),
        ("[blocky]", "points: expected levels by codec"),
        ("{blocky: b16}", "points.blocky: expected a list of levels"),
    ],
)
def test_a_point_that_is_not_run_is_refused(
    make_config: MakeConfig, points: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(f"adaptors={{darken: {{points: {points}}}}}")


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
