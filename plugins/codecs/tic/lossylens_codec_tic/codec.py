"""TIC as a codec."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lossylens.codec import Level
from lossylens.errors import ConfigError
from lossylens_toolkit.neural_codec.checkpoints import Checkpoint
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.neural_options import NANO
from lossylens_toolkit.neural_codec.padding import Padding
from torch import Tensor, nn

from lossylens_codec_tic import network
from lossylens_codec_tic.plugin import HP, LEVELS, SERIAL, stems

#: Channels of the transforms and of y, at low and at high rates.
_WIDTHS = ((128, 192), (192, 320))
#: Official names of the stages.
_STAGES = {
    HP: ("g_a1", "g_a3", "g_a5", "g_a7", "h_a1", "h_a3"),
    SERIAL: ("g_a1", "g_a3", "g_a5", "h_a1", "h_a3"),
}


class TicCodec(NeuralCodec):
    """TIC at the rate of one checkpoint; zeros at the right and the bottom.

    The hyper analysis has windows of four positions, each of which is 64 pixels wide, or 32
    with the serial context.
    """

    name = "tic"
    package = __package__
    levels = LEVELS

    @property
    def padding(self) -> Padding:  # type: ignore[override]
        """See the base."""
        return Padding(128 if self.options.variant == SERIAL else 256)

    def build(self, config: Mapping[str, Any]) -> network.Tic | network.SerialTic:
        """See the base."""
        return network.build(**config)

    def network_config(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """See the base.

        Raises:
            ConfigError: the checkpoint is of the other variant.
        """
        config = super().network_config(checkpoint)
        wanted = HP if self.options.variant == NANO else self.options.variant
        found = config.get("variant", HP)
        if found != wanted:
            raise ConfigError(f"the checkpoint is of the variant {found}; this is {wanted}")
        return config

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: variant, widths and depths are read from the file."""
        if state:
            variant = SERIAL if "context_prediction.qkv.weight" in state else HP
        else:
            variant = self.options.variant
        return {"variant": variant, **_widths(state), **_depths(state, _STAGES[variant])}

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        network.load_official(network_, state)

    def official_state(self, network_: nn.Module) -> Mapping[str, Tensor]:
        """See the base."""
        return network.official_state_dict(network_)

    def stems(self, level: Level) -> Sequence[str]:
        """See the base: the public checkpoints are of the variant ``hp``."""
        return stems(level) if self.options.variant == HP else ()


def _widths(state: Mapping[str, Tensor]) -> Mapping[str, int]:
    layers = [state.get(f"g_a{i}.weight") for i in (0, 6)]
    found = tuple(len(each) for each in layers if each is not None and each.ndim)
    return dict(zip("NM", found if found in _WIDTHS else _WIDTHS[0], strict=True))


def _depths(state: Mapping[str, Tensor], stages: Sequence[str]) -> Mapping[str, list[int]]:
    """Return the depths, which the public code has changed once; nothing if one is none."""
    names = "\n".join(state)
    depths = [
        len(set(re.findall(rf"^{stage}\.residual_group\.blocks\.(\d+)\.", names, re.MULTILINE)))
        for stage in stages
    ]
    return {"depths": depths} if all(depths) else {}
