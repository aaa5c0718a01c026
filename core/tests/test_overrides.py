"""``key=value``: one reading, whether in a run's overrides or after ``--option``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.cli import main
from lossylens.cli.single_files import parse_options
from lossylens.errors import ConfigError
from lossylens.grid.config import read_yaml
from lossylens.options.overrides import Untyped
from lossylens.options.resolving import resolve_options
from lossylens.spec import PluginSpec


@dataclass
class Deep:
    url: str = ""
    tries: int = 5


@dataclass
class Options:
    text: str = ""
    count: int | None = None
    share: float = 0.0
    switch: bool = False
    sizes: list[int] = field(default_factory=list)
    free: dict[str, Any] = field(default_factory=dict)
    deep: Deep = field(default_factory=Deep)


SPEC = PluginSpec(name="p", summary="", factory="", options=Options)


def options(values: dict[str, Any]) -> Options:
    resolved = resolve_options(SPEC, values, "codecs.p")
    assert isinstance(resolved, Options)
    return resolved


PAIRS = {
    "text=4:2:0": {"text": "4:2:0"},
    "text=012": {"text": "012"},
    "text=1.10": {"text": "1.10"},
    "text=true": {"text": "true"},
    "text=": {"text": ""},
    "text=a=b": {"text": "a=b"},
    "text='null'": {"text": "null"},
    "count=3": {"count": 3},
    "count=null": {"count": None},
    "share=1e-3": {"share": 1e-3},
    "switch=true": {"switch": True},
    "sizes=[1, 2]": {"sizes": [1, 2]},
    "deep.url=http://h:1/v1": {"deep": Deep(url="http://h:1/v1")},
    "deep={url: u, tries: 3}": {"deep": Deep("u", 3)},
    "free.a.b=192": {"free": {"a": {"b": 192}}},
    "free.a=false": {"free": {"a": False}},
    "free.a=1e-4": {"free": {"a": 1e-4}},
    "free.a='5'": {"free": {"a": "5"}},
    "free={a: 4:2:0, b: 012, c: [1.5, null, ], d: 08}": {
        "free": {"a": "4:2:0", "b": "012", "c": [1.5, None], "d": "08"}
    },
}


@pytest.mark.parametrize("pair", PAIRS)
def test_both_places_read_a_pair_alike(pair: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("codecs: {p: }\n")
    expected = Options(**PAIRS[pair])
    assert options(parse_options([pair])) == expected
    assert options(read_yaml(config, [f"codecs.p.{pair}"])[0]["codecs"]["p"] or {}) == expected


@given(st.text(st.characters(exclude_characters="$\\", exclude_categories=["Cs"])))
def test_text_is_what_was_typed(text: str) -> None:
    if text == "null" or text[:1] in ("[", "{", "'", '"'):
        return
    assert options(parse_options([f"text={text}"])).text == text


def test_several_keys_of_one_mapping() -> None:
    found = options(parse_options(["deep.url=u", "deep.tries=2"])).deep
    assert found == Deep("u", 2)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["deep.url=a", "deep.url=b"], "--option 'deep.url=b': deep.url is given twice"),
        (["deep=null", "deep.=b"], "--option 'deep.=b': expected key=value"),
        (["text=a", "text.b=c"], "--option 'text.b=c': text is not a mapping"),
        (["sizes=[1"], "--option 'sizes=[1': malformed value"),
    ],
)
def test_malformed_pairs(pairs: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(pairs)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"deep": {"ulr": 1}}, "codecs.p.deep.ulr: unknown option. Did you mean url?"),
        (
            {"deep.url": "u"},
            "codecs.p: unknown option 'deep.url'. A key within a key is written deep: {url: ...}.",
        ),
        ({"count": Untyped("many")}, "codecs.p.count: expected a whole number or null"),
    ],
)
def test_wrong_keys_are_named_where_they_are(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(values)
    assert str(caught.value).startswith(expected)


def test_a_codec_can_be_added_without_options(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"vlms: {{seer: }}\ntasks: {{patches: {{images: 1}}}}\nrun: {{out: {tmp_path}/run}}"
    )
    assert main(["run", str(config), "codecs.blocky=", "--dry-run"]) == 0
    assert "3 codec levels" in capsys.readouterr().out
