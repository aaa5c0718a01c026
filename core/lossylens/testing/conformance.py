"""What every codec must do: the contract of :mod:`lossylens.codec` as tests."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from lossylens.codec import Codec, CodecSpec, Level
from lossylens.errors import BitstreamError, ConfigError, ImageError, RequirementError
from lossylens.testing.decoding_process import SETTINGS, Outcome, raised
from lossylens.testing.pictures import picture, squared_error
from lossylens.testing.subject import Subject, check, fail
from lossylens.testing.suite import ConformanceSuite

#: Width and height: single pixels, single rows, odd sizes, and one around each of
#: the block sizes and strides in use.
SIZES = (
    *((1, 1), (1, 2), (2, 1), (3, 2), (1, 17), (17, 1), (9, 7), (16, 16), (15, 33)),
    *((65, 31), (64, 64), (63, 127), (129, 130), (256, 192), (513, 257)),
)

#: Values that hardly any option has.
_NONSENSE: Mapping[Any, tuple[Any, ...]] = {
    int: (-(10**9),),
    float: (float("nan"), -1e9),
    str: ("no such value",),
    Path: ("/no/such/file",),
}


class CodecConformance(ConformanceSuite):
    """The tests that every codec must pass.

    A module of tests derives a class from it, whose name starts with ``Test``.

    Attributes:
        codecs: names of the codecs; without any, those of the option ``--codec``.
        options: of the codecs, as in a configuration.
    """

    kind: ClassVar[str] = "codec"
    codecs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def make_subject(
        cls, name: str, given: Mapping[str, Any], request: pytest.FixtureRequest
    ) -> Subject:
        """Return the codec under test."""
        return Subject(name, given, request.config.getoption("--codec-examples"))

    # The declaration

    def test_levels(self, subject: Subject) -> None:
        """Levels are found by their names, in any case, and by no others."""
        spec = subject.spec
        names = [level.name for level in spec.levels]
        check(names, "the codec has no levels; it needs one at least")
        check(len(set(names)) == len(names), f"two levels have one name: {names}")
        for level in spec.levels:
            for name in (level.name, level.name.upper()):
                check(_level(spec, name) == level, f"level {name!r} is not found by its name")
            parsed = spec.parse_level(level.name) if spec.parse_level else None
            check(
                parsed in (None, level),
                f"parse_level and levels disagree on {level.name!r}: {parsed} and {level}",
            )
        for name in ("", "no such level", f"{names[0]}x", "-1", "q٣"):
            found = _level(spec, name)
            check(found is None, f"{name!r} is taken for the level {found}, which it is not")

    def test_options_that_make_no_sense(self, subject: Subject) -> None:
        """A value is refused before anything is encoded with it, or it works."""
        hints = typing.get_type_hints(subject.spec.options)
        for field in dataclasses.fields(subject.spec.options):
            for value in _nonsense(hints[field.name], getattr(subject.options, field.name)):
                what = f"option {field.name}={value!r}"
                try:
                    codec = subject.registry.build_codec(
                        subject.spec.name,
                        subject.lowest.level,
                        {**subject.given, field.name: value},
                    )
                    decoded = codec.decode(codec.encode(subject.small_picture))
                except (ConfigError, RequirementError):
                    continue
                except Exception as error:
                    fail(f"{what}: raised {raised(error)} instead of a ConfigError")
                wanted = subject.small_picture.size
                fits = _fits(codec, decoded.size, wanted)
                check(fits, f"{what}: {_image(decoded)} instead of {wanted}")

    def test_provenance(self, subject: Subject) -> None:
        """It is text, and the same for every instance."""
        found = subject.lowest.provenance()
        for each in found.items():
            text = all(isinstance(part, str) and part for part in each)
            check(text, f"provenance has {each}, which must be two texts that are not empty")
        again = dict(subject.build(subject.lowest.level).provenance())
        check(again == dict(found), f"provenance of a second instance: {again}, not {dict(found)}")

    # Encoding and decoding

    @pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
    def test_round_trip(self, subject: Subject, size: tuple[int, int]) -> None:
        """Any size comes back, here and in a process that has the bitstream alone."""
        image = picture(size[1], size[0])
        bitstream = subject.encode(subject.lowest, image)
        level = subject.lowest.level.name
        what = f"{level}, a RGB image of {size}"
        decoded = subject.decode(subject.lowest, bitstream, f"of a RGB image of {size}")
        same = decoded.mode == "RGB" and _fits(subject.lowest, decoded.size, size)
        check(same, f"{what}: decoded to {_image(decoded)}")
        check(decoded.info == {}, f"{what}: decoded with metadata {sorted(decoded.info)}")
        if subject.spec.lossless:
            lost = decoded.tobytes() != image.tobytes()
            check(not lost, f"{what}: other pixels, although the codec is declared lossless")
        apart = subject.decode_apart(level, bitstream, pixels=True)
        there = f"{what}: decoded in a process of its own"
        right = (apart.problem, apart.mode, apart.size) == ("", "RGB", decoded.size)
        check(right, f"{there}: {apart.words}")
        check(apart.pixels == decoded.tobytes(), f"{there}: other pixels than here")

    def test_the_picture_is_the_right_one(self, subject: Subject) -> None:
        """What is decoded resembles its original more than a turned or recoloured one."""
        image = picture(96, 96)
        decoded = subject.decode(subject.highest, subject.encode(subject.highest, image))
        what = f"{subject.highest.level.name}, a RGB image of {image.size}"
        fits = _fits(subject.highest, decoded.size, image.size)
        check(fits, f"{what}: decoded to {_image(decoded)}")
        image = image.resize(decoded.size)
        red, green, blue = image.split()
        others = {f"turned ({each.name})": image.transpose(each) for each in Image.Transpose}
        others["with red and blue exchanged"] = Image.merge("RGB", (blue, green, red))
        others["with its colours moved on"] = Image.merge("RGB", (green, blue, red))
        error = squared_error(image, decoded)
        for name, other in others.items():
            resembles = squared_error(other, decoded)
            check(
                error < resembles,
                f"{what}: decoded to what resembles the image {name} more than the image itself"
                f" (mean squared error {resembles:.1f}, not {error:.1f})",
            )

    def test_rate_falls_as_levels_fall(self, subject: Subject) -> None:
        """Published levels ascend in rate, and the last distorts less than the first."""
        images = [picture(192, 256, seed) for seed in range(2)]
        names = [level.name for level in subject.spec.levels]
        rates, errors = [], []
        for name in names:
            codec = subject.build(subject.spec.level(name))
            bitstreams = [subject.encode(codec, image) for image in images]
            rates.append(sum(map(len, bitstreams)))
            decoded = [subject.decode(codec, bitstream) for bitstream in bitstreams]
            # What is left scaled down is compared at its size.
            originals = [image.resize(of.size) for image, of in zip(images, decoded, strict=True)]
            errors.append(sum(map(squared_error, originals, decoded)))
        sizes = f"bytes of {names}: {rates}"
        check(rates == sorted(rates), f"levels must ascend in rate; {sizes}")
        if len(rates) > 1:
            check(rates[0] < rates[-1], f"the last level must cost more than the first; {sizes}")
            check(
                errors[0] > errors[-1] or subject.spec.lossless,
                f"{names[-1]} distorts no less than {names[0]}: mean squared error"
                f" {errors[-1]:.2f} and {errors[0]:.2f}",
            )

    def test_encoding_is_deterministic(self, subject: Subject) -> None:
        """Whatever was encoded before, and by whichever instance."""
        codec = subject.build(subject.lowest.level)
        image = picture(50, 70, 1)
        bitstream = subject.encode(subject.lowest, image)
        subject.encode(codec, picture(30, 20, 2))
        what = f"{codec.level.name}, a RGB image of {image.size}"
        after = subject.encode(codec, image)
        check(
            after == bitstream,
            f"{what}: another instance, which had encoded another image before, gave another"
            f" bitstream ({_difference(bitstream, after)})",
        )
        again = subject.encode(subject.lowest, image)
        check(
            again == bitstream,
            f"{what}: encoded twice to different bitstreams ({_difference(bitstream, again)})",
        )

    def test_decoding_is_deterministic(self, subject: Subject) -> None:
        """Whatever was decoded or refused before."""
        images = [picture(50, 70, seed) for seed in (1, 2)]
        first, second = (subject.encode(subject.lowest, image) for image in images)
        codec = subject.build(subject.lowest.level)
        level = codec.level.name
        decoded = subject.decode(codec, first).tobytes()
        subject.decode(codec, second)
        half = len(first) // 2
        _refuses(codec, first[:half], f"{level}, cut to {half} bytes")
        check(
            subject.decode(codec, first).tobytes() == decoded,
            f"{level}: a bitstream gave other pixels after others had been decoded and refused",
        )

    @pytest.mark.parametrize("setting", SETTINGS)
    def test_decoding_is_the_same_everywhere(self, subject: Subject, setting: str) -> None:
        """However many threads there are, and whatever the processor's instructions."""
        with contextlib.closing(subject.process(SETTINGS[setting])) as process:
            for level, bitstream, pixels in subject.large:
                outcome = process.decode(level, bitstream, pixels=True)
                found = outcome.problem or outcome.refusal
                check(not found, f"{level}, {setting}: {found}")
                changed = sum(map(operator.ne, outcome.pixels, pixels))
                check(outcome.pixels == pixels, f"{level}, {setting}: {changed} samples differ")

    def test_pixels_are_all_that_counts(self, subject: Subject) -> None:
        """Metadata are not paid for, and the argument is left as it was."""
        plain, laden = picture(40, 50), picture(40, 50)
        for key in ("comment", "exif", "icc_profile", "xmp"):
            laden.info[key] = b"Exif\0\0" + b"x" * 5000
        before = (laden.tobytes(), dict(laden.info))
        level = subject.lowest.level.name
        expected = subject.encode(subject.lowest, plain)
        found = subject.encode(subject.lowest, laden, "an image with 5000 bytes of metadata")
        info = ", ".join(map(str, laden.info))
        check(
            found == expected,
            f"{level}, an image with {info} in its info: {len(found)} bytes instead"
            f" of the {len(expected)} without ({_difference(expected, found)}); see"
            " lossylens.images.plain_rgb",
        )
        kept = (laden.tobytes(), laden.info) == before
        check(kept, f"{level}: encode has changed the image that it was given, or its info")

    def test_batches(self, subject: Subject) -> None:
        """A batch is what its members are one by one, whatever their sizes."""
        sizes = ((24, 40), (40, 24), (24, 40), (7, 1))
        images = [picture(*size, seed) for seed, size in enumerate(sizes)]
        codec = subject.lowest
        level = codec.level.name
        expected = [subject.encode(codec, image) for image in images]
        bitstreams = _batch(f"{level}, encode_batch", codec.encode_batch, images)
        for place, (one, other) in enumerate(zip(expected, bitstreams, strict=True)):
            check(
                one == other,
                f"{level}, encode_batch: bitstream {place} is not that of the image alone"
                f" ({_difference(one, other)})",
            )
        pixels = [subject.decode(codec, bitstream).tobytes() for bitstream in bitstreams]
        decoded = _batch(f"{level}, decode_batch", codec.decode_batch, bitstreams)
        for place, (here, image) in enumerate(zip(pixels, decoded, strict=True)):
            check(
                here == image.tobytes(),
                f"{level}, decode_batch: image {place} is not that of the bitstream alone",
            )
        for name, function in (("encode", codec.encode_batch), ("decode", codec.decode_batch)):
            nothing = _batch(f"{level}, {name}_batch of no item", function, [])
            check(nothing == [], f"{level}, {name}_batch of no item: {nothing!r} instead of []")

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
    def test_other_modes_are_refused(self, subject: Subject, mode: str) -> None:
        """An image that is not RGB is never converted in silence."""
        _refuses_to_encode(subject.lowest, Image.new(mode, (16, 16)), f"an image of mode {mode}")

    @pytest.mark.parametrize("size", [(0, 5), (5, 0)])
    def test_no_pixels_are_refused(self, subject: Subject, size: tuple[int, int]) -> None:
        """There is no rate without pixels."""
        _refuses_to_encode(subject.lowest, Image.new("RGB", size), f"an image of {size}")

    def test_latents(self, subject: Subject) -> None:
        """Where a codec gives latents, they are arrays, the same each time."""
        level = subject.lowest.level.name
        bitstream = subject.small[level]
        try:
            first, second = (subject.lowest.latents(bitstream) for _ in range(2))
        except NotImplementedError:
            pytest.skip("the codec has no latents")
        values = np.asarray(first.values)
        what = f"{level}, latents"
        check(
            (values.ndim, values.dtype) == (3, np.dtype(np.float32)),
            f"{what}: an array of {values.ndim} dimensions, {values.dtype}, instead of"
            " (channels, height, width), float32",
        )
        check(np.isfinite(values).all(), f"{what}: not all are finite")
        check(np.array_equal(values, second.values), f"{what}: others when read again")
        check(
            first.space == subject.lowest.space != "",
            f"{what}: of the space {first.space!r}, the codec says {subject.lowest.space!r}",
        )
        check(first.stride >= 1, f"{what}: a stride of {first.stride} instead of 1 or more")
        _refuses(subject.lowest, b"", f"{what} of no bytes", method="latents")

    # Bitstreams that are damaged.  Each is decoded in another process, within the
    # bounds on time and memory; the first that is not dealt with ends a test.

    def test_empty(self, subject: Subject) -> None:
        """No bytes are no bitstream."""
        level = subject.lowest.level.name
        _refused(subject.decode_apart(level, b""), f"{level}, no bytes")

    def test_truncated(self, subject: Subject) -> None:
        """A bitstream that was cut anywhere is refused."""
        for level, bitstream in subject.small.items():
            # The last few always; they are the hardest to miss.
            lengths = range(len(bitstream))
            step = max(1, len(lengths) // (2 * subject.examples))
            for length in sorted({*lengths[::step], *lengths[-8:]}):
                outcome = subject.decode_apart(level, bitstream[:length])
                _refused(outcome, f"{level}, cut to {length} bytes")

    def test_bit_flips(self, subject: Subject) -> None:
        """Flipped bits are noticed, or give some picture; nothing worse."""

        @_examples(subject)
        @given(_sound(subject), st.sets(_PLACES, min_size=1, max_size=8))
        def check_one(sound: tuple[str, bytes], flipped: set[int]) -> None:
            level, damaged = sound[0], bytearray(sound[1])
            places = sorted({place % (8 * len(damaged)) for place in flipped})
            for place in places:
                damaged[place // 8] ^= 1 << place % 8
            bits = ", ".join(map(str, places))
            _harmless(subject.decode_apart(level, bytes(damaged)), f"{level}, bits {bits} flipped")

        check_one()

    def test_pieces_replaced(self, subject: Subject) -> None:
        """So is any stretch that is lost, or has become something else."""

        @_examples(subject)
        @given(_sound(subject), _PLACES, _PLACES, st.binary(max_size=20))
        def check_one(sound: tuple[str, bytes], one: int, other: int, between: bytes) -> None:
            level, bitstream = sound
            start, end = sorted(place % (len(bitstream) + 1) for place in (one, other))
            outcome = subject.decode_apart(level, bitstream[:start] + between + bitstream[end:])
            _harmless(outcome, f"{level}, bytes {start} to {end} replaced by {between!r}")

        check_one()

    def test_random_bytes(self, subject: Subject) -> None:
        """Bytes that are no bitstream are refused."""

        @_examples(subject)
        @given(st.binary(max_size=400))
        def check_one(content: bytes) -> None:
            level = subject.lowest.level.name
            _refused(subject.decode_apart(level, content), f"{level}, the bytes {_short(content)}")

        check_one()

    def test_random_bytes_behind_a_sound_beginning(self, subject: Subject) -> None:
        """Headers that are right do not make the rest so."""

        @_examples(subject)
        @given(_sound(subject), _PLACES, st.binary(max_size=400))
        def check_one(sound: tuple[str, bytes], place: int, content: bytes) -> None:
            level, bitstream = sound
            kept = bitstream[: place % (len(bitstream) + 1)]
            what = f"{level}, the first {len(kept)} bytes, then {_short(content)}"
            _harmless(subject.decode_apart(level, kept + content), what)

        check_one()


def _level(spec: CodecSpec, name: str) -> Level | None:
    """Return the level called *name*, None where it is refused as it should be."""
    try:
        return spec.level(name)
    except ConfigError:
        return None
    except Exception as error:
        fail(f"the level {name!r}: raised {raised(error)} instead of a ConfigError")


def _fits(codec: Codec, size: tuple[int, int], original: tuple[int, int]) -> bool:
    """Whether an image of *original* size may be decoded to *size*."""
    smaller = size[0] <= original[0] and size[1] <= original[1]
    return size == original or (smaller and not codec.keeps_size)


def _image(image: Image.Image) -> str:
    return f"a {image.mode} image of {image.size}"


def _difference(one: bytes, other: bytes) -> str:
    """Return where two bitstreams differ, in words."""
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} bytes"
    place = next((place for place in range(len(one)) if one[place] != other[place]), 0)
    return f"at byte {place} first"


def _short(content: bytes) -> str:
    return repr(content) if len(content) <= 20 else f"{content[:20]!r}... ({len(content)} in all)"


def _batch(what: str, function: Callable[[Any], list[Any]], items: list[Any]) -> list[Any]:
    try:
        results = function(items)
    except Exception as error:
        fail(f"{what}: raised {raised(error)}")
    found = f"{len(results)} results for {len(items)} items"
    check(len(results) == len(items), f"{what}: {found}")
    return results


def _refuses_to_encode(codec: Codec, image: Image.Image, what: str) -> None:
    """Fail unless *image* is refused with an :class:`ImageError`."""
    what = f"{codec.level.name}, {what}"
    try:
        bitstream = codec.encode(image)
    except ImageError as error:
        check(str(error), f"{what}: an ImageError without a message")
    except Exception as error:
        fail(f"{what}: raised {raised(error)} instead of an ImageError with a message")
    else:
        fail(f"{what}: a bitstream of {len(bitstream)} bytes instead of an ImageError")


def _refuses(codec: Codec, bitstream: bytes, what: str, method: str = "decode") -> None:
    """Fail unless *bitstream* is refused with a :class:`BitstreamError`, in this process."""
    try:
        found = getattr(codec, method)(bitstream)
    except BitstreamError as error:
        check(str(error), f"{what}: a BitstreamError without a message")
    except Exception as error:
        fail(f"{what}: raised {raised(error)} instead of a BitstreamError with a message")
    else:
        shown = _image(found) if isinstance(found, Image.Image) else "a result"
        fail(f"{what}: {shown} instead of a BitstreamError with a message")


#: Places in a bitstream, to be taken modulo its size.
_PLACES = st.integers(0, 2**24)


def _sound(subject: Subject) -> st.SearchStrategy[tuple[str, bytes]]:
    """Return a strategy for a level and a sound bitstream of that level."""
    return st.sampled_from(list(subject.small.items()))


def _examples(subject: Subject) -> settings:
    # The first example that fails is the one to be told: to look for a smaller one would
    # take hundreds of further ones, and, where the process dies each time, minutes.
    return settings(
        max_examples=subject.examples,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def _refused(outcome: Outcome, what: str) -> None:
    """Fail unless a :class:`BitstreamError` with a message was raised within the bounds."""
    if outcome.problem or not outcome.refusal:
        fail(f"{what}: {outcome.words} instead of a BitstreamError with a message")


def _harmless(outcome: Outcome, what: str) -> None:
    """Fail unless the bitstream was refused or gave an RGB image, within the bounds."""
    if outcome.problem or not (outcome.refusal or outcome.mode == "RGB"):
        expected = "a BitstreamError with a message, or some RGB image"
        fail(f"{what}: {outcome.words} instead of {expected}")


def _nonsense(hint: Any, value: Any) -> tuple[Any, ...]:
    """Return values of the type *hint* that hardly make sense; for a switch, the other one."""
    types = typing.get_args(hint) or (hint,)
    if bool in types:
        return (not value,)
    return next((_NONSENSE[each] for each in types if each in _NONSENSE), ())
