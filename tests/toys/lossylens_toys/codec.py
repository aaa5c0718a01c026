"""A codec that wants several images at once, and says in a log how many it got."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
from lossylens.codec import Codec
from lossylens.errors import BitstreamError
from PIL import Image


def log(*words):
    path = os.environ.get("TOY_LOG")
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
        os.close(handle)


class Batches(Codec):
    batch_images = 4

    def encode(self, image):
        return self._coded([image])[0]

    def decode(self, bitstream):
        return self._pictures([bitstream])[0]

    def encode_batch(self, images):
        log("encode", len(images))
        assert len({image.size for image in images}) == 1
        if any(image.getpixel((0, 0)) == (13, 13, 13) for image in images):
            os.abort()
        return self._coded(images)

    def decode_batch(self, bitstreams):
        log("decode", len(bitstreams))
        return self._pictures(bitstreams)

    def _coded(self, images):
        shift = self.level.parameters["shift"]
        stack = np.stack([np.asarray(image) for image in images]) >> shift
        return [
            struct.pack(">HH", *image.size) + zlib.compress(values.tobytes())
            for image, values in zip(images, stack, strict=True)
        ]

    def _pictures(self, bitstreams):
        pictures = []
        for bitstream in bitstreams:
            try:
                width, height = struct.unpack_from(">HH", bitstream)
                data = zlib.decompress(bitstream[4:])
                values = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            except (struct.error, zlib.error, ValueError) as error:
                raise BitstreamError(f"not a bitstream of toy-batches: {error}") from error
            pictures.append(Image.fromarray(values << self.level.parameters["shift"]))
        return pictures
