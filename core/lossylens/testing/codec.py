"""What every codec must do: the contract of :mod:`lossylens.codec` as tests."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lossylens.cli.files import parse_options
from lossylens.errors import (
    BitstreamError,
    ConfigError,
    ImageError,
    LossylensError,
    RequirementError,
)
from lossylens.testing.decoding import SETTINGS, Outcome
from lossylens.testing.pictures import picture, squared_error
from lossylens.testing.subject import Subject

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


class CodecConformance:
    """The tests that every codec must pass.

    A module of tests derives a class from it, whose name starts with ``Test``.

    Attributes:
        codecs: names of the codecs; without any, those of the option ``--codec``.
        options: of the codecs, as in a configuration.
    """

    codecs: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Any]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each codec."""
        if "subject" in metafunc.fixturenames:
            names = self.codecs or tuple(metafunc.config.getoption("--codec"))
            if not names:
                raise pytest.UsageError("which codec is to be checked? Say --codec NAME")
            metafunc.parametrize("subject", names, indirect=True, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, request: pytest.FixtureRequest) -> Iterator[Subject]:
        """The codec under test, where it can run."""
        try:
            given = {**cls.options, **parse_options(request.config.getoption("--codec-option"))}
            subject = Subject(request.param, given, request.config.getoption("--codec-examples"))
            subject.skip_unless_it_can_run()
        except LossylensError as error:
            pytest.fail(str(error), pytrace=False)
        yield subject
        subject.close()

    # The declaration

    def test_levels(self, subject: Subject) -> None:
        """Levels are found by their names, in any case, and by no others."""
        spec = subject.spec
        assert spec.levels, "a codec has at least one level"
        assert len({level.name for level in spec.levels}) == len(spec.levels)
        for level in spec.levels:
            assert spec.level(level.name) == spec.level(level.name.upper()) == level
            parsed = spec.parse_level(level.name) if spec.parse_level else None
            assert parsed in (None, level), "parse_level and levels disagree"
        for name in ("", "no such level", f"{spec.levels[0].name}x", "-1", "q٣"):
            with pytest.raises(ConfigError):
                spec.level(name)

    def test_options_that_make_no_sense(self, subject: Subject) -> None:
        """A value is refused before anything is encoded with it, or it works."""
        hints = typing.get_type_hints(subject.spec.options)
        for field in dataclasses.fields(subject.spec.options):
            for value in _nonsense(hints[field.name], getattr(subject.options, field.name)):
                options = {**subject.given, field.name: value}
                with contextlib.suppress(ConfigError, RequirementError):
                    codec = subject.registry.build_codec(
                        subject.spec.name, subject.lowest.level, options
                    )
                    bitstream = codec.encode(subject.small_picture)
                    assert codec.decode(bitstream).size == subject.small_picture.size

    def test_provenance(self, subject: Subject) -> None:
        """It is text, and the same for every instance."""
        found = subject.lowest.provenance()
        assert all(isinstance(text, str) and text for each in found.items() for text in each)
        assert dict(subject.build(subject.lowest.level).provenance()) == dict(found)

    # Encoding and decoding

    @pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
    def test_round_trip(self, subject: Subject, size: tuple[int, int]) -> None:
        """Any size comes back, here and in a process that has the bitstream alone."""
        image = picture(size[1], size[0])
        bitstream = subject.lowest.encode(image)
        assert isinstance(bitstream, bytes)
        decoded = subject.lowest.decode(bitstream)
        assert (decoded.mode, decoded.size, decoded.info) == ("RGB", size, {})
        if subject.spec.lossless:
            assert decoded.tobytes() == image.tobytes()
        expected = Outcome(mode="RGB", size=size, pixels=decoded.tobytes())
        apart = subject.decode_apart(subject.lowest.level.name, bitstream, pixels=True)
        assert apart == expected, apart.problem or apart.refusal or "other pixels"

    def test_the_picture_is_the_right_one(self, subject: Subject) -> None:
        """What is decoded resembles its original more than a turned or recoloured one."""
        image = picture(96, 96)
        decoded = subject.highest.decode(subject.highest.encode(image))
        red, green, blue = image.split()
        others = [image.transpose(each) for each in Image.Transpose]
        others += [Image.merge("RGB", (blue, green, red)), Image.merge("RGB", (green, blue, red))]
        error = squared_error(image, decoded)
        assert all(error < squared_error(other, decoded) for other in others)

    def test_rate_falls_as_levels_fall(self, subject: Subject) -> None:
        """Published levels ascend in rate, and the last distorts less than the first."""
        images = [picture(192, 256, seed) for seed in range(2)]
        names = [level.name for level in subject.spec.levels]
        rates, errors = [], []
        for name in names:
            codec = subject.build(subject.spec.level(name))
            bitstreams = [codec.encode(image) for image in images]
            rates.append(sum(map(len, bitstreams)))
            decoded = [codec.decode(bitstream) for bitstream in bitstreams]
            errors.append(sum(map(squared_error, images, decoded)))
        assert rates == sorted(rates), f"bytes of {names}"
        if len(rates) > 1:
            assert rates[0] < rates[-1]
            assert errors[0] > errors[-1] or subject.spec.lossless

    def test_encoding_is_deterministic(self, subject: Subject) -> None:
        """Whatever was encoded before, and by whichever instance."""
        codec = subject.build(subject.lowest.level)
        image = picture(50, 70, 1)
        bitstream = subject.lowest.encode(image)
        codec.encode(picture(30, 20, 2))
        assert codec.encode(image) == bitstream == subject.lowest.encode(image)

    def test_decoding_is_deterministic(self, subject: Subject) -> None:
        """Whatever was decoded or refused before."""
        first, second = (subject.lowest.encode(picture(50, 70, seed)) for seed in (1, 2))
        codec = subject.build(subject.lowest.level)
        decoded = codec.decode(first).tobytes()
        codec.decode(second)
        with pytest.raises(BitstreamError):
            codec.decode(first[: len(first) // 2])
        assert codec.decode(first).tobytes() == decoded

    @pytest.mark.parametrize("setting", SETTINGS)
    def test_decoding_is_the_same_everywhere(self, subject: Subject, setting: str) -> None:
        """However many threads there are, and whatever the processor's instructions."""
        with contextlib.closing(subject.process(SETTINGS[setting])) as process:
            for level, bitstream, pixels in subject.large:
                outcome = process.decode(level, bitstream, pixels=True)
                found = outcome.problem or outcome.refusal
                assert not found, f"{level}, {setting}: {found}"
                changed = sum(map(operator.ne, outcome.pixels, pixels))
                assert outcome.pixels == pixels, f"{level}, {setting}: {changed} samples differ"

    def test_pixels_are_all_that_counts(self, subject: Subject) -> None:
        """Metadata are not paid for, and the argument is left as it was."""
        plain, laden = picture(40, 50), picture(40, 50)
        for key in ("comment", "exif", "icc_profile", "xmp"):
            laden.info[key] = b"Exif\0\0" + b"x" * 5000
        before = (laden.tobytes(), dict(laden.info))
        assert subject.lowest.encode(laden) == subject.lowest.encode(plain)
        assert (laden.tobytes(), laden.info) == before

    def test_batches(self, subject: Subject) -> None:
        """A batch is what its members are one by one, whatever their sizes."""
        sizes = ((24, 40), (40, 24), (24, 40), (7, 1))
        images = [picture(*size, seed) for seed, size in enumerate(sizes)]
        bitstreams = subject.lowest.encode_batch(images)
        assert bitstreams == [subject.lowest.encode(image) for image in images]
        decoded = subject.lowest.decode_batch(bitstreams)
        one_by_one = [subject.lowest.decode(bitstream) for bitstream in bitstreams]
        assert [each.tobytes() for each in decoded] == [each.tobytes() for each in one_by_one]
        assert subject.lowest.encode_batch([]) == subject.lowest.decode_batch([]) == []

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
    def test_other_modes_are_refused(self, subject: Subject, mode: str) -> None:
        """An image that is not RGB is never converted in silence."""
        with pytest.raises(ImageError):
            subject.lowest.encode(Image.new(mode, (16, 16)))

    @pytest.mark.parametrize("size", [(0, 5), (5, 0)])
    def test_no_pixels_are_refused(self, subject: Subject, size: tuple[int, int]) -> None:
        """There is no rate without pixels."""
        with pytest.raises(ImageError):
            subject.lowest.encode(Image.new("RGB", size))

    def test_latents(self, subject: Subject) -> None:
        """Where a codec gives latents, they are arrays, the same each time."""
        bitstream = subject.small[subject.lowest.level.name]
        try:
            first, second = (subject.lowest.latents(bitstream) for _ in range(2))
        except NotImplementedError:
            pytest.skip("the codec has no latents")
        values = np.asarray(first.values)
        assert (values.ndim, values.dtype) == (3, np.dtype(np.float32))
        assert np.isfinite(values).all()
        assert np.array_equal(values, second.values)
        assert first.network
        assert first.stride >= 1
        with pytest.raises(BitstreamError):
            subject.lowest.latents(b"")

    # Bitstreams that are damaged.  Each is decoded in another process, within the
    # bounds on time and memory.

    def test_empty(self, subject: Subject) -> None:
        """No bytes are no bitstream."""
        _refused(subject.decode_apart(subject.lowest.level.name, b""))

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
        def check(sound: tuple[str, bytes], flipped: set[int]) -> None:
            level, damaged = sound[0], bytearray(sound[1])
            for place in flipped:
                byte, bit = divmod(place % (8 * len(damaged)), 8)
                damaged[byte] ^= 1 << bit
            _harmless(subject.decode_apart(level, bytes(damaged)))

        check()

    def test_pieces_replaced(self, subject: Subject) -> None:
        """So is any stretch that is lost, or has become something else."""

        @_examples(subject)
        @given(_sound(subject), _PLACES, _PLACES, st.binary(max_size=20))
        def check(sound: tuple[str, bytes], one: int, other: int, between: bytes) -> None:
            level, bitstream = sound
            start, end = sorted(place % (len(bitstream) + 1) for place in (one, other))
            _harmless(subject.decode_apart(level, bitstream[:start] + between + bitstream[end:]))

        check()

    def test_random_bytes(self, subject: Subject) -> None:
        """Bytes that are no bitstream are refused."""

        @_examples(subject)
        @given(st.binary(max_size=400))
        def check(content: bytes) -> None:
            _refused(subject.decode_apart(subject.lowest.level.name, content))

        check()

    def test_random_bytes_behind_a_sound_beginning(self, subject: Subject) -> None:
        """Headers that are right do not make the rest so."""

        @_examples(subject)
        @given(_sound(subject), _PLACES, st.binary(max_size=400))
        def check(sound: tuple[str, bytes], place: int, content: bytes) -> None:
            level, bitstream = sound
            kept = bitstream[: place % (len(bitstream) + 1)]
            _harmless(subject.decode_apart(level, kept + content))

        check()


#: Places in a bitstream, to be taken modulo its size.
_PLACES = st.integers(0, 2**24)


def _sound(subject: Subject) -> st.SearchStrategy[tuple[str, bytes]]:
    """Return a strategy for a level and a sound bitstream of that level."""
    return st.sampled_from(list(subject.small.items()))


def _examples(subject: Subject) -> settings:
    return settings(
        max_examples=subject.examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def _refused(outcome: Outcome, what: str = "") -> None:
    """Fail unless a :class:`BitstreamError` with a message was raised within the bounds."""
    assert not outcome.problem, f"{what} {outcome.problem}"
    found = f"{what}: a {outcome.mode} image of {outcome.size}"
    assert outcome.refusal, f"{found} instead of a BitstreamError with a message"


def _harmless(outcome: Outcome) -> None:
    """Fail unless the bitstream was refused or gave an RGB image, within the bounds."""
    assert not outcome.problem, outcome.problem
    assert outcome.refusal or outcome.mode == "RGB"


def _nonsense(hint: Any, value: Any) -> tuple[Any, ...]:
    """Return values of the type *hint* that hardly make sense; for a switch, the other one."""
    types = typing.get_args(hint) or (hint,)
    if bool in types:
        return (not value,)
    return next((_NONSENSE[each] for each in types if each in _NONSENSE), ())
