"""MS-ILLM as a codec."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from lossylens.codec import Level
from lossylens_toolkit.neural_codec.generative_codec import GenerativeCodec
from PIL import Image
from torch import Tensor, nn

from lossylens_codec_msillm import network
from lossylens_codec_msillm.plugin import LEVELS, stems

#: What pickling the official class takes beyond a plain tuple of the same content.
_CLASS_BYTES = 81


class MsillmCodec(GenerativeCodec):
    """MS-ILLM at the rate of one checkpoint."""

    name = "msillm"
    package = __package__
    levels = LEVELS
    padding = network.PADDING
    counting = "size of a pickle"

    def build(self, config: Mapping[str, Any]) -> network.Msillm:
        """See the base."""
        return network.build(**config)

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: there is one size."""
        return {}

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        network.load_official(network_, state)

    def official_state(self, network_: nn.Module) -> Mapping[str, Tensor]:
        """See the base."""
        return network.official_state_dict(network_)

    def stems(self, level: Level) -> Sequence[str]:
        """See the base."""
        return stems(level)

    def official_bits(self, image: Image.Image, bitstream: bytes) -> float:
        """See the base: both strings and sizes, pickled as the official named tuple."""
        content = self._unpack(bitstream)
        width, height = self.padding.padded(*image.size)
        sizes = (image.height, image.width), (height, width)
        plain = pickle.dumps(([content.y], [content.z], *sizes))
        return 8 * (len(plain) + _CLASS_BYTES)
