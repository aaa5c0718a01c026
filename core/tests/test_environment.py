"""What a configuration takes from the environment stays out of all that is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lossylens.errors import ConfigError, LossylensError
from lossylens.grid.config import Config, load_config
from lossylens.grid.manifest import make_manifest
from lossylens.grid.plan import described, make_plan
from lossylens.options.environment import Environment, resolve

SECRET = "secret-123 with 'quotes' and é"

PLUGIN = """
from dataclasses import dataclass, field

from lossylens.hookspecs import hookimpl
from lossylens.spec import OPERATIONAL
from lossylens.vlm import Answer, Vlm, VlmSpec


@dataclass
class Options:
    key: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    number: int = 0
    seed: int = 0
    timeout: str = field(default="", metadata=OPERATIONAL)

    def __post_init__(self):
        if self.number < 0:
            raise ValueError(f"{self.key} does not go with {self.number}")


class Keyed(Vlm):
    def __init__(self, options):
        if options.seed < 0:
            from lossylens.errors import ConfigError

            raise ConfigError(f"no model for {options.key!r}")
        self.options = options

    def provenance(self):
        return {"said": f"hello {self.options.timeout}"}

    def answer(self, batch):
        return [[Answer("Yes")] * len(each.questions) for each in batch]


@hookimpl
def register_vlms(register):
    register(
        VlmSpec(
            name="keyed", summary="", factory=f"{__name__}:Keyed", options=Options, parameters=0
        )
    )
"""

CONFIG = """
codecs: {blocky: {levels: [b64]}}
vlms: {keyed: OPTIONS}
tasks: {patches: {images: 2}}
run: {out: run, workers: 1, uncompressed: false}
"""


@pytest.fixture
def load(beside_sample, tmp_path: Path, monkeypatch):
    """Load a configuration of the VLM with options in YAML."""
    beside_sample.plant("planted", PLUGIN)
    monkeypatch.setenv("GATEWAY_KEY", SECRET)
    monkeypatch.setenv("NUMBER", "4")
    monkeypatch.setenv("WORD", "secret")

    def load(options: str, *overrides: str) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.replace("OPTIONS", options).replace("run,", f"{tmp_path}/run,"))
        return load_config(path, overrides)

    return load


def recorded(config: Config) -> str:
    """Return all that a run writes about its configuration."""
    plan = make_plan(config)
    parts = [dict(part.description) for part in plan.parts]
    return json.dumps([config.values, make_manifest(config, plan), parts], ensure_ascii=False)


WAYS = {
    "plain": "{key: '${oc.env:GATEWAY_KEY}'}",
    "within text": "{key: 'Bearer ${oc.env:GATEWAY_KEY}!'}",
    "nested": "{extra: {a: '${oc.env:GATEWAY_KEY}'}, words: [a, '${oc.env:GATEWAY_KEY}']}",
    "by reference": "{key: '${vlms.keyed.extra.a}', extra: {a: '${oc.env:GATEWAY_KEY}'}}",
    "selected": "{key: '${oc.select:vlms.keyed.extra.a}', extra: {a: '${oc.env:GATEWAY_KEY}'}}",
    "operational": "{timeout: '${oc.env:GATEWAY_KEY}'}",
    "whole mapping": "{extra: '${oc.decode:\"{a: b, c: ${oc.env:WORD}}\"}'}",
}


@pytest.mark.parametrize("options", WAYS.values(), ids=list(WAYS))
def test_records_have_the_text_as_written(load, options):
    text = recorded(load(options))
    assert "secret" not in text
    assert "${oc.env:" in text


def test_overrides_are_records_too(load):
    config = load("", "vlms.keyed.key=${oc.env:GATEWAY_KEY}")
    assert config.vlms[0].options.key == SECRET
    assert "secret" not in recorded(config)


def test_the_plugin_gets_the_value(load):
    options = load("{key: 'B ${oc.env:GATEWAY_KEY}', number: '${oc.env:NUMBER}'}").vlms[0].options
    assert (options.key, options.number) == (f"B {SECRET}", 4)


def test_another_value_is_another_key(load, monkeypatch):
    config = "{key: '${oc.env:GATEWAY_KEY}'}"
    first = make_plan(load(config)).models[0].part
    assert first.description["options"]["key"] == "${oc.env:GATEWAY_KEY}"
    assert list(first.description["environment"]) == ["key"]
    assert make_plan(load(config)).models[0].part.key == first.key
    monkeypatch.setenv("GATEWAY_KEY", "another")
    assert make_plan(load(config)).models[0].part.key != first.key


def test_an_operational_value_decides_nothing_by_itself(load, monkeypatch):
    choice = load("{timeout: '${oc.env:GATEWAY_KEY}'}").vlms[0]
    assert "environment" not in described(choice)


def test_what_does_not_come_from_the_environment_is_recorded_as_ever(load):
    plain = make_plan(load("{key: text, number: 4}")).models[0].part
    referring = load("{key: text, number: '${tasks.patches.images}'}", "tasks.patches.images=4")
    assert make_plan(referring).models[0].part.key == plain.key
    absent = load("{key: '${oc.env:NOT_THERE,text}', number: 4}")
    assert make_plan(absent).models[0].part.key == plain.key


@pytest.mark.parametrize(
    "options",
    [
        "{number: '${oc.env:GATEWAY_KEY}'}",
        "{number: 'x${oc.env:GATEWAY_KEY}'}",
        "{key: '${oc.env:GATEWAY_KEY}', number: -1}",
        "{key: '${oc.env:GATEWAY_KEY}', seed: -1}",
        "{words: '${oc.env:GATEWAY_KEY}'}",
        "'${oc.env:GATEWAY_KEY}'",
    ],
)
def test_messages_have_the_text_as_written(load, options):
    with pytest.raises(ConfigError) as caught:
        make_plan(load(options))
    assert "secret" not in str(caught.value)
    assert "${oc.env:GATEWAY_KEY}" in str(caught.value) or "number" in str(caught.value)


def test_long_values_that_a_message_cuts_off_are_hidden(load, monkeypatch):
    monkeypatch.setenv("GATEWAY_KEY", "secret-12345" * 10)
    with pytest.raises(ConfigError) as caught:
        load("{number: '${oc.env:GATEWAY_KEY}'}")
    assert "secret" not in str(caught.value)


def test_short_values_are_hidden_where_they_stand_alone():
    environment = Environment(secrets={"7": "${oc.env:N}", "N": "${oc.env:WHICH}"})
    assert environment.hidden("7 of 17, '7'") == "${oc.env:N} of 17, '${oc.env:N}'"
    with (
        pytest.raises(LossylensError, match=r"^got \$\{oc.env:N\}$"),
        environment.out_of_messages(),
    ):
        raise LossylensError("got 7")


def test_places_and_values(monkeypatch):
    monkeypatch.setenv("A", "one")
    monkeypatch.setenv("WHICH", "A")
    written = {
        "x.y": {"l": ["b", "${oc.env:A}"], "n": "${oc.env:${oc.env:WHICH}}", "r": "${.n}-"},
    }
    values, environment = resolve(written)
    assert values["x.y"] == {"l": ["b", "one"], "n": "one", "r": "one-"}
    assert dict(environment.within("x.y").texts) == {
        ("l", 1): "${oc.env:A}",
        ("n",): "${oc.env:${oc.env:WHICH}}",
        ("r",): "${oc.env:${oc.env:WHICH}}-",
    }
