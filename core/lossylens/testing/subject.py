"""What is under test, and what the checks of one plugin share."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Generic, NoReturn, TypeVar

import pytest
from PIL.Image import Image

from lossylens.codec import Codec, CodecSpec, Level
from lossylens.registry.plugin_info import Registered
from lossylens.registry.plugins import Registry, load_registry
from lossylens.spec import MANDATORY, PluginSpec
from lossylens.testing.decoding_process import DecodingProcess, Outcome, raised
from lossylens.testing.pictures import picture

#: Bounds of decoding, whatever the bytes: seconds beyond ten times what a sound
#: bitstream takes, and bytes.
SECONDS = 10.0
MEMORY = 4 * 2**30

#: Seconds for each kind of damage, unless the number of examples is given, and
#: the least and the largest number.
_BUDGET = 1.0
_EXAMPLES = (25, 200)


def fail(message: str) -> NoReturn:
    """Fail a test with *message* alone."""
    raise pytest.fail.Exception(message, pytrace=False) from None


def check(condition: object, message: str) -> None:
    """Fail a test with *message* alone unless *condition* is true."""
    if not condition:
        fail(message)


def _type(value: Any) -> str:
    return type(value).__name__


S = TypeVar("S", bound=PluginSpec)


class PluginSubject(Generic[S]):
    """A plugin under test.

    Args:
        kind: such as ``"codec"``.
        name: of the plugin.
        given: options, as in a configuration.
    """

    def __init__(self, kind: str, name: str, given: Mapping[str, Any]) -> None:
        self.registry: Registry = load_registry()
        found: Registered[Any] = self.registry.find(kind, name)
        self.found: Registered[S] = found
        self.given = dict(given)

    def skip_unless_it_can_run(self) -> None:
        """Skip what is about to be tested if this machine or an option lacks something."""
        declared = self.found.spec
        who = f"{declared.kind} {declared.name!r}"
        for field in dataclasses.fields(declared.options):
            if field.default == MANDATORY and field.name not in self.given:
                pytest.skip(f"{who} must be given the option {field.name!r}")
        missing = self.registry.missing(self.found, self.options)
        if missing:
            reasons = "; ".join(f"{each.what}: {each.remedy}" for each in missing)
            pytest.skip(f"{who} cannot run here: {reasons}")

    @property
    def spec(self) -> S:
        """Its declaration with these options."""
        return self._configured[0].spec

    @property
    def options(self) -> Any:
        """Its options."""
        return self._configured[1]

    @cached_property
    def _configured(self) -> tuple[Registered[S], Any]:
        return self.registry.configured(self.found, self.given)

    def check_built(self) -> None:
        """Build what the checks share, so that what prevents it is told once."""
        raise NotImplementedError

    def close(self) -> None:
        """End what the checks have begun."""


class Subject(PluginSubject[CodecSpec]):
    """A codec under test.

    Args:
        name: of the codec.
        given: options, as in a configuration.
        examples: damaged bitstreams for each kind of damage; None for as many as a
            second allows.
    """

    def __init__(self, name: str, given: Mapping[str, Any], examples: int | None) -> None:
        super().__init__("codec", name, given)
        self._examples = examples

    def check_built(self) -> None:
        """Build the codec at its lowest level."""
        _ = self.lowest

    def build(self, level: Level) -> Codec:
        """Return a new instance."""
        return self.registry.build_codec(self.spec.name, level, self.options)

    @cached_property
    def lowest(self) -> Codec:
        """An instance at the first published level."""
        return self.build(self.spec.levels[0])

    @cached_property
    def highest(self) -> Codec:
        """An instance at the last published level."""
        return self.build(self.spec.levels[-1])

    def encode(self, codec: Codec, image: Image, what: str = "") -> bytes:
        """Return a bitstream; fail, naming *what* was encoded, unless there is one."""
        what = f"{codec.level.name}, {what or f'a RGB image of {image.size}'}"
        try:
            bitstream = codec.encode(image)
        except Exception as error:
            fail(f"{what}: encoding raised {raised(error)}")
        check(isinstance(bitstream, bytes), f"{what}: encoded to a {_type(bitstream)}, not bytes")
        return bitstream

    def decode(self, codec: Codec, bitstream: bytes, what: str = "a sound bitstream") -> Image:
        """Return the image in a sound bitstream; fail unless it is one."""
        what = f"{codec.level.name}, {what}"
        try:
            image = codec.decode(bitstream)
        except Exception as error:
            fail(f"{what}: decoding raised {raised(error)}")
        check(hasattr(image, "mode"), f"{what}: decoded to a {_type(image)}, not an image")
        return image

    @cached_property
    def small_picture(self) -> Image:
        """The picture whose bitstreams are damaged."""
        return picture(40, 24)

    @cached_property
    def small(self) -> Mapping[str, bytes]:
        """Its bitstreams at the lowest and at the highest level, by the level's name."""
        codecs = (self.lowest, self.highest)
        return {codec.level.name: self.encode(codec, self.small_picture) for codec in codecs}

    @cached_property
    def large(self) -> list[tuple[str, bytes, bytes]]:
        """Level, bitstream and decoded pixels of pictures at the lowest and highest level."""
        found = []
        for codec in (self.lowest, self.highest):
            for seed in range(3):
                bitstream = codec.encode(picture(192, 256, seed))
                pixels = codec.decode(bitstream).tobytes()
                found.append((codec.level.name, bitstream, pixels))
        return found

    @cached_property
    def decode_seconds(self) -> float:
        """The time that decoding it takes, at the lowest level."""
        bitstream = self.small[self.lowest.level.name]
        self.decode(self.lowest, bitstream)
        start = time.perf_counter()
        self.lowest.decode(bitstream)
        return time.perf_counter() - start

    @property
    def examples(self) -> int:
        """The number of damaged bitstreams for each kind of damage."""
        if self._examples is not None:
            return self._examples
        least, most = _EXAMPLES
        return max(least, min(most, int(_BUDGET / self.decode_seconds)))

    @cached_property
    def _process(self) -> DecodingProcess:
        return self.process({})

    def process(self, environment: Mapping[str, str]) -> DecodingProcess:
        """Return a process that decodes within the bounds, in another environment."""
        return DecodingProcess(
            self.spec.name,
            self.given,
            next(iter(self.small.items())),
            seconds=SECONDS + 10 * self.decode_seconds,
            memory=MEMORY,
            environment=environment,
        )

    def decode_apart(self, level: str, bitstream: bytes, *, pixels: bool = False) -> Outcome:
        """Decode *bitstream* in another process, within the bounds."""
        return self._process.decode(level, bitstream, pixels=pixels)

    def close(self) -> None:
        """End the other process."""
        if "_process" in vars(self):
            self._process.close()
