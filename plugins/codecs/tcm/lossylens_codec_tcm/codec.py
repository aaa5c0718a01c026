"""TCM as a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.padding import Padding
from torch import Tensor, nn

from lossylens_codec_tcm import network
from lossylens_codec_tcm.plugin import LEVELS

_WIDTHS = (64, 96, 128)
_LARGE = 128


class TcmCodec(NeuralCodec):
    """TCM at the rate of one checkpoint; zeros around the picture as publicly coded.

    The windows of the entropy model need latents of more than one window, so that the
    shortest padded side is 256, where the public code fails.
    """

    name = "tcm"
    package = __package__
    levels = LEVELS
    padding = Padding(128, minimum=256, centred=True)

    def build(self, config: Mapping[str, Any]) -> network.Tcm:
        """See the base."""
        return network.build(**config)

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: small, middle and large differ in the width of the transforms."""
        first = state.get("g_a.0.conv1.weight")
        width = first.shape[0] // 2 if first is not None and first.ndim else _LARGE
        return {"N": width if width in _WIDTHS else _LARGE}

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        network.load_official(network_, state)
