"""Codecs that break one rule each, for the conformance suite to notice."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossylens.codec import CodecSpec, Level
from lossylens.errors import BitstreamError
from lossylens.hookspecs import hookimpl
from lossylens.spec import MANDATORY, Missing
from lossylens.uncompressed import Uncompressed
from PIL import Image


class Sound(Uncompressed):
    """Deflates, with a check sum; passes the suite."""

    def encode(self, image):
        packed = zlib.compress(super().encode(image), self.level.parameters["effort"])
        return struct.pack(">I", zlib.crc32(packed)) + packed

    def decode(self, bitstream):
        if struct.pack(">I", zlib.crc32(bitstream[4:])) != bitstream[:4]:
            raise BitstreamError("sound: the check sum is wrong")
        return super().decode(zlib.decompress(bitstream[4:]))


class Shrinking(Sound):
    def decode(self, bitstream):
        image = super().decode(bitstream)
        return image.crop((0, 0, image.width // 2 * 2, image.height)) if image.width > 1 else image


class Mirrored(Sound):
    def decode(self, bitstream):
        return super().decode(bitstream).transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class Remembering(Sound):
    """Keeps the picture out of the bitstream."""

    kept: ClassVar[dict[bytes, Image.Image]] = {}

    def encode(self, image):
        bitstream = super().encode(image)[:4]
        self.kept[bitstream] = image.copy()
        return bitstream

    def decode(self, bitstream):
        if bitstream not in self.kept:
            raise BitstreamError("remembering: unknown")
        return self.kept[bitstream].copy()


class Counting(Sound):
    count = 0

    def encode(self, image):
        self.count += 1
        if self.count > 1:
            image = image.point(lambda value: value ^ 1)
        return super().encode(image)


class Threading(Sound):
    def decode(self, bitstream):
        image = super().decode(bitstream)
        if os.environ.get("OMP_NUM_THREADS") == "3":
            image.putpixel((0, 0), (1, 2, 3))
        return image


class Paying(Sound):
    def encode(self, image):
        packed = super().encode(image)[4:] + image.info.get("comment", b"")
        return struct.pack(">I", zlib.crc32(packed)) + packed


class Batching(Sound):
    def decode_batch(self, bitstreams):
        return super().decode_batch(bitstreams)[::-1]


class Converting(Sound):
    def encode(self, image):
        return super().encode(image.convert("RGB"))


class Raising(Sound):
    def decode(self, bitstream):
        return Image.frombytes("RGB", (40, 24), zlib.decompress(bitstream[4:])[13:])


def note(what):
    """Append a line to the file that a test has named, from whichever process."""
    if "WAYWARD_LOG" in os.environ:
        with Path(os.environ["WAYWARD_LOG"]).open("a") as log:
            log.write(f"{what}\n")


class Undocumented(Sound):
    """Raises what no contract names for all that is not sound."""

    def decode(self, bitstream):
        try:
            return super().decode(bitstream)
        except BitstreamError as error:
            note("decoded")
            raise OSError("broken data stream") from error


class Dying(Sound):
    """Ends its process for all that is not sound."""

    def decode(self, bitstream):
        try:
            return super().decode(bitstream)
        except BitstreamError:
            note("decoded")
            os.kill(os.getpid(), signal.SIGKILL)


class Unbuildable(Sound):
    def __init__(self, level, options):
        raise ValueError("no weights")


class Naive(Sound):
    """What a first attempt at a codec does: nothing is checked."""

    def encode(self, image):
        if image.mode == "I;16":
            raise OSError("cannot write mode I;16")
        return super().encode(image if image.mode == "RGB" else image.convert("RGB"))


class Greedy(Sound):
    def decode(self, bitstream):
        try:
            return super().decode(bitstream)
        except BitstreamError:
            mmap.mmap(-1, 5 * 2**30).close()
            raise


class Crashing(Sound):
    def decode(self, bitstream):
        if not bitstream:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().decode(bitstream)


class Hanging(Sound):
    def decode(self, bitstream):
        if not bitstream:
            time.sleep(60)
        return super().decode(bitstream)


class Lenient(Sound):
    def decode(self, bitstream):
        try:
            return super().decode(bitstream)
        except BitstreamError:
            return Image.new("RGB", (24, 40))


class Careless(Sound):
    def encode(self, image):
        return super().encode(image) + b"x"[: 1 // (self.options.effort + 10**9)]


@dataclass
class EffortOptions:
    effort: int = 1


@dataclass
class FileOptions:
    file: str = MANDATORY


def lacking(options):
    return [Missing("the binary waywardly", "build it")]


@hookimpl
def register_codecs(register):
    # Deflated by ever lower effort: ascending in rate.
    levels = (Level("e9", {"effort": 9}), Level("e0", {"effort": 0}))
    classes = [
        *(Sound, Shrinking, Mirrored, Remembering, Counting, Threading, Paying, Batching),
        *(Converting, Raising, Undocumented, Dying, Unbuildable, Naive, Greedy, Crashing),
        *(Hanging, Lenient),
    ]
    for each in classes:
        register(spec(each, each.__name__, levels))
    register(spec(Careless, "Careless", levels, options=EffortOptions))
    register(spec(Sound, "Descending", levels[::-1]))
    register(spec(Sound, "Permissive", levels, parse_level=lambda name: levels[0]))
    register(spec(Sound, "Lacking", levels, requirements=lacking))
    register(spec(Sound, "Demanding", levels, options=FileOptions))


def spec(implementation, name, levels, **more):
    return CodecSpec(
        name=name.lower(),
        summary="breaks a rule",
        factory=f"lossylens_wayward:{implementation.__name__}",
        levels=levels,
        lossless=True,
        **more,
    )
