"""A codec that quantises samples and deflates them; pixels can make it fail."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
import zlib

import numpy as np
from lossylens.codec import Codec
from lossylens.errors import BitstreamError, ImageError, RequirementError
from PIL import Image

from lossylens_sample import dawdle, log

#: Red sample of the first pixel of images that are trouble; see ``task.py``.
REFUSED, CRASHING, UNDECODABLE, SHRINKING, RAISING, HOPELESS = 250, 251, 252, 253, 254, 255

#: What an encoder can do beside that.
STUCK, HOARDING = 243, 244

#: What a decoder can do beside raising an error.
EXITING, KILLED, HANGING, GREEDY, WANDERING = 245, 246, 247, 248, 249


def wander():
    os.chdir("/")


def be_greedy():
    hoard = []
    while True:
        hoard.append(bytearray(b"x" * 200_000_000))


DECODER_TROUBLES = {
    EXITING: lambda: sys.exit(0),
    KILLED: lambda: os.kill(os.getpid(), signal.SIGSEGV),
    HANGING: lambda: time.sleep(600),
    GREEDY: be_greedy,
    WANDERING: wander,
}


def is_measured():
    """Whether the caller measures fidelity."""
    frame = sys._getframe()
    while frame := frame.f_back:
        if frame.f_globals["__name__"] == "lossylens.run.measure_jobs":
            return True
    return False


def name_of(image: Image.Image) -> str:
    """Return what tells test images apart; it survives quantisation."""
    return "-".join(str(value // 64) for value in image.crop((1, 1, 5, 5)).tobytes()[:48:3])


class Blocky(Codec):
    def __init__(self, level, options):
        super().__init__(level, options)
        log(level.name, options.program, variable="SAMPLE_BUILT")

    def encode(self, image):
        trouble = image.getpixel((0, 0))
        log("encode", self.level.name, name_of(image))
        dawdle()
        if trouble == (REFUSED, 0, 0):
            raise ImageError("blocky does not like it")
        if trouble == (RAISING, 0, 0):
            raise ZeroDivisionError("a bug")
        if trouble == (HOPELESS, 0, 0):
            raise RequirementError("blocky lost its binary")
        if trouble == (STUCK, 0, 0):
            time.sleep(600)
        if trouble == (HOARDING, 0, 0):
            be_greedy()
        if trouble == (CRASHING, 0, 0):
            os.kill(os.getpid(), signal.SIGSEGV)
        step = self.level.parameters["step"]
        values = np.asarray(image) // step * step + self.options.offset % step
        header = struct.pack(">HHH", image.width, image.height, trouble[0])
        if "SAMPLE_RANDOM" in os.environ:
            values = values // 255 + np.random.default_rng().integers(0, 9, values.shape)
        return header + zlib.compress(values.astype(np.uint8).tobytes())

    def decode(self, bitstream):
        dawdle("SAMPLE_DECODE_DELAY")
        if is_measured():
            log("decode to measure")
        width, height, trouble = struct.unpack_from(">HHH", bitstream)
        if trouble == UNDECODABLE:
            raise BitstreamError("cannot make sense of it")
        if trouble == SHRINKING:
            width, height = 1, 1
        DECODER_TROUBLES.get(trouble, lambda: None)()
        data = zlib.decompress(bitstream[6:])[: 3 * width * height]
        return Image.frombytes("RGB", (width, height), data)
