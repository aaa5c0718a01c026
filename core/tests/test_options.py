"""Options of plugins: what is taken, and what is said about what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from lossylens.codec import CodecSpec
from lossylens.errors import ConfigError, PluginError
from lossylens.options.resolving import options_as_written, resolve_options
from lossylens.spec import NoOptions, path_if


class Speed(StrEnum):
    FAST = "fast"
    SLOW = "slow"


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Inner:
    depth: int = 1
    paths: list[Path] = field(default_factory=list)


@dataclass
class Options:
    quality: int = 75
    factor: float = 1.0
    progressive: bool = False
    name: str = "x"
    speed: Speed = Speed.FAST
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    folder: Path | None = None
    sizes: list[int] = field(default_factory=list)
    pair: tuple[int, ...] = (1, 2)
    weights: dict[str, float] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)
    either: int | str = 1
    inner: Inner = field(default_factory=Inner)
    inners: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None


@dataclass
class MayBePath:
    text: str = field(default="", metadata=path_if(bool))
    word: str = field(default="", metadata=path_if(lambda text: "/" in text))


@dataclass
class Located:
    default: Path = Path("x")
    folder: Path = Path("y")
    more: dict[str, list[Path]] = field(default_factory=dict)
    text: str = field(default="", metadata=path_if(bool))
    word: str = field(default="", metadata=path_if(lambda text: "/" in text))


@dataclass
class Inheriting(MayBePath):
    text: str = "z"


@dataclass
class Demanding:
    data: Path = "???"
    checked: int = 0

    def __post_init__(self) -> None:
        if self.checked < 0:
            raise ValueError(f"checked is {self.checked}, it must not be negative")


def resolve(values, options=Options, where="codecs.jpeg"):
    spec = CodecSpec(levels=(), name="jpeg", summary="", factory="a:B", options=options)
    return resolve_options(spec, values, where)


def refusal(values, options=Options) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(values, options)
    return str(caught.value)


def test_defaults_are_those_of_the_dataclass():
    assert resolve({}) == Options()
    assert resolve({}, NoOptions) == NoOptions()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"quality": "12"}, 12),
        ({"factor": 2}, 2.0),
        ({"progressive": True}, True),
        ({"name": "abc"}, "abc"),
        ({"speed": "slow"}, Speed.SLOW),
        ({"speed": "SLOW"}, Speed.SLOW),
        ({"colour": "BLUE"}, Colour.BLUE),
        ({"mode": "b"}, "b"),
        ({"folder": "a/b"}, Path.cwd() / "a/b"),
        ({"folder": None}, None),
        ({"sizes": [1, 2]}, [1, 2]),
        ({"pair": [3]}, (3,)),
        ({"weights": {"a.b": 1}}, {"a.b": 1.0}),
        ({"either": "text"}, "text"),
        ({"inner": {"depth": 4}}, Inner(4)),
        ({"inners": {"a": {"depth": 4}}}, {"a": Inner(4)}),
        ({"anything": [1, {"a": None}]}, [1, {"a": None}]),
    ],
)
def test_values_take_the_type_of_their_field(values, expected):
    (key,) = values
    value = getattr(resolve(values), key)
    assert value == expected
    assert type(value) is type(expected)


def test_home_is_expanded_in_paths_only(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    options = resolve(
        {"folder": "~/a", "roots": {"r": "~/b"}, "inner": {"paths": ["~/c"]}, "name": "~/d"}
    )
    assert options.folder == Path("/home/me/a")
    assert options.roots == {"r": Path("/home/me/b")}
    assert options.inner.paths == [Path("/home/me/c")]
    assert options.name == "~/d"


def test_environment_variables_may_be_named(monkeypatch):
    monkeypatch.setenv("CHECKPOINTS", "/data")
    assert resolve({"folder": "${oc.env:CHECKPOINTS}"}).folder == Path("/data")
    monkeypatch.delenv("CHECKPOINTS")
    text = refusal({"folder": "${oc.env:CHECKPOINTS}"})
    assert text.startswith("codecs.jpeg.folder: ")
    assert "'CHECKPOINTS' not found" in text
    assert refusal({"name": "${unclosed"}).startswith("codecs.jpeg.name: malformed '${...}'")


def test_values_from_the_environment_are_not_in_messages(monkeypatch):
    secret = "secret-12345" * 10
    monkeypatch.setenv("GATEWAY_KEY", secret)
    for values in (
        {"quality": "${oc.env:GATEWAY_KEY}"},
        {"factor": "1${oc.env:GATEWAY_KEY}"},
        {"speed": "${oc.env:GATEWAY_KEY}"},
        {"weights": {"a": "${oc.env:GATEWAY_KEY}"}},
        {"sizes": ["${oc.env:GATEWAY_KEY}"]},
    ):
        text = refusal(values)
        assert "secret" not in text
        assert text.startswith(f"codecs.jpeg.{next(iter(values))}")


def test_relative_paths_are_absolute_from_then_on(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spec = CodecSpec(levels=(), name="jpeg", summary="", factory="a:B", options=Located)
    values = {"folder": "../a", "more": {"b": ["c/d", "/e"]}, "text": "f", "word": "hub"}
    options = resolve_options(spec, values, "codecs.jpeg")
    assert options == Located(
        default=tmp_path / "x",
        folder=tmp_path / "../a",
        more={"b": [tmp_path / "c/d", Path("/e")]},
        text=str(tmp_path / "f"),
        word="hub",
    )
    assert options_as_written(spec, values, "codecs.jpeg") == Located(
        Path("x"), Path("../a"), {"b": [Path("c/d"), Path("/e")]}, "f", "hub"
    )


def test_a_field_that_is_extended_may_still_be_a_path():
    assert resolve({}, Inheriting).text == str(Path.cwd() / "z")
    assert resolve({"text": ""}, Inheriting).text == ""


def test_values_of_one_call_do_not_reach_the_next():
    resolve({"sizes": [1]}).sizes.append(2)
    assert resolve({}).sizes == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"qualty": 1}, "codecs.jpeg.qualty: unknown option. Did you mean quality?"),
        ({"inner": {"dept": 1}}, "codecs.jpeg.inner.dept: unknown option. Did you mean depth?"),
        (
            {"inners": {"a": {"dept": 1}}},
            "codecs.jpeg.inners.a.dept: unknown option. Did you mean depth?",
        ),
        ({3: 1}, "codecs.jpeg.3: unknown option. Known: "),
        ({"quality": "high"}, "codecs.jpeg.quality: expected a whole number, got 'high'."),
        ({"quality": 1.5}, "codecs.jpeg.quality: expected a whole number, got 1.5."),
        ({"quality": True}, "codecs.jpeg.quality: expected a whole number, got True."),
        ({"quality": None}, "codecs.jpeg.quality: expected a whole number, got null."),
        ({"quality": {"a": 1}}, "codecs.jpeg.quality: expected a whole number, got {'a': 1}."),
        ({"factor": "x"}, "codecs.jpeg.factor: expected a number, got 'x'."),
        ({"progressive": 3}, "codecs.jpeg.progressive: expected true or false, got 3."),
        ({"progressive": "maybe"}, "codecs.jpeg.progressive: expected true or false, got 'maybe'."),
        ({"name": False}, "codecs.jpeg.name: expected text, got False."),
        ({"name": [1]}, "codecs.jpeg.name: expected text, got [1]."),
        ({"speed": "faster"}, "codecs.jpeg.speed: expected one of fast, slow, got 'faster'."),
        ({"colour": "GREEN"}, "codecs.jpeg.colour: expected one of RED, BLUE, got 'GREEN'."),
        ({"mode": "c"}, "codecs.jpeg.mode: expected one of a, b, got 'c'."),
        ({"folder": 5}, "codecs.jpeg.folder: expected a path or null, got 5."),
        ({"sizes": 5}, "codecs.jpeg.sizes: expected a list, each item a whole number, got 5."),
        ({"sizes": None}, "codecs.jpeg.sizes: expected a list, each item a whole number, got null"),
        ({"sizes": [1, "a"]}, "codecs.jpeg.sizes[1]: expected a whole number, got 'a'."),
        ({"pair": ["a"]}, "codecs.jpeg.pair: expected a list, each item a whole number, got ['a']"),
        ({"weights": {"a": "b"}}, "codecs.jpeg.weights.a: expected a number, got 'b'."),
        ({"weights": [1]}, "codecs.jpeg.weights: expected a mapping, each value a number, got [1]"),
        ({"either": 1.5}, "codecs.jpeg.either: expected a whole number or text, got 1.5."),
        ({"inner": 5}, "codecs.jpeg.inner: expected a mapping with depth, paths, got 5."),
        ({"inner": {"depth": "x"}}, "codecs.jpeg.inner.depth: expected a whole number, got 'x'."),
    ],
)
def test_a_wrong_value_is_named_with_its_path_and_what_is_expected(values, expected):
    text = refusal(values)
    assert text.startswith(expected)
    assert "\n" not in text


@dataclass
class Texts:
    name: str = "x"
    maybe: str | None = None
    names: list[str] = field(default_factory=list)
    pair: tuple[str, ...] = ()
    by_name: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    inner: dict[str, Inner] = field(default_factory=dict)
    texts: list[MayBePath] = field(default_factory=list)
    either: int | str = 1
    flags: list[bool] = field(default_factory=list)


@pytest.mark.parametrize("value", [4.1, 10, 0, True, False, date(2026, 1, 1), 1e100, b"x"])
@pytest.mark.parametrize(
    ("key", "place", "make"),
    [
        ("name", "name", lambda value: value),
        ("maybe", "maybe", lambda value: value),
        ("names", "names[1]", lambda value: ["a", value]),
        ("pair", "pair[0]", lambda value: [value]),
        ("by_name", "by_name.a", lambda value: {"a": value}),
        ("by_name", "by_name", lambda value: {value: "a"}),
        ("lists", "lists.a[0]", lambda value: {"a": [value]}),
        ("texts", "texts[0].text", lambda value: [{"text": value}]),
    ],
)
def test_text_that_yaml_does_not_read_as_text_is_refused(key, place, make, value):
    text = refusal({key: make(value)}, Texts)
    assert text.startswith(f"codecs.jpeg.{place}: expected ")
    assert f"got {value.isoformat() if isinstance(value, date) else repr(value)}." in text
    assert text.endswith("Put it in quotation marks if it is text.")


@pytest.mark.parametrize("values", [{"name": None}, {"names": [None]}, {"by_name": {"a": None}}])
def test_null_is_no_text(values):
    assert "got null. Put it in quotation marks if it is text." in refusal(values, Texts)


def test_what_may_be_a_number_is_one():
    assert resolve({"either": 5, "maybe": None}, Texts) == Texts(either=5)
    assert refusal({"flags": [1]}, Texts).startswith("codecs.jpeg.flags[0]: expected true or false")


def test_a_long_value_is_cut_in_the_message():
    assert len(refusal({"quality": "x" * 10_000})) < 150


def test_a_mandatory_option_must_be_given():
    assert refusal({}, Demanding) == "codecs.jpeg.data: must be given (expected a path)."
    assert refusal({"data": "???"}, Demanding).startswith("codecs.jpeg.data: must be given")
    assert resolve({"data": "x"}, Demanding).data == Path.cwd() / "x"


def test_what_the_dataclass_refuses_is_a_configuration_error():
    text = refusal({"data": "x", "checked": -1}, Demanding)
    assert text == "codecs.jpeg: checked is -1, it must not be negative"


def test_an_option_of_a_plugin_without_options():
    assert refusal({"a": 1}, NoOptions) == "codecs.jpeg.a: unknown option. It takes no options."


@pytest.mark.parametrize("values", [5, "text", ["a"]])
def test_values_must_be_a_mapping(values):
    assert refusal(values).startswith("codecs.jpeg: expected a mapping of options, got ")


def test_a_dataclass_that_cannot_be_checked_is_the_fault_of_the_plugin():
    @dataclass
    class Odd:
        these: set[int] = field(default_factory=set)

    with pytest.raises(PluginError, match=r"options of .* 'jpeg' are malformed"):
        resolve({}, Odd)
