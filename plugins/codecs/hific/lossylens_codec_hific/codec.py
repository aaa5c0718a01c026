"""HiFiC as a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lossylens.codec import Level
from lossylens.errors import ConfigError
from lossylens_toolkit.neural_codec.checkpoints import Checkpoint
from lossylens_toolkit.neural_codec.generative_codec import GenerativeCodec
from lossylens_toolkit.training.objective import estimated_bits
from PIL import Image
from torch import Tensor, nn

from lossylens_codec_hific import network
from lossylens_codec_hific.plugin import LEVELS, stems
from lossylens_codec_hific.priors import GAUSSIAN, LOGISTIC

#: What the official recipe of ``med`` has, and the others have not.
_MED = {"normalize_input_image": False, "likelihood_type": LOGISTIC}
_OTHERS = {"normalize_input_image": True, "likelihood_type": GAUSSIAN}

#: Arguments of the official training that shape the network, beside these.
_SHAPING = ("latent_channels", "use_channel_norm", "sample_noise")


class HificCodec(GenerativeCodec):
    """HiFiC at the rate of one checkpoint."""

    name = "hific"
    package = __package__
    levels = LEVELS
    padding = network.PADDING
    counting = "estimated entropy, no file"

    def build(self, config: Mapping[str, Any]) -> network.Hific:
        """See the base."""
        return network.build(**config)

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: by the recipe of the level; residual blocks are counted."""
        recipe = _MED if self.level.name == "med" else _OTHERS
        blocks = network.residual_blocks(list(state))
        # Without any it is no HiFiC, which loading will say.
        return {**recipe, "n_residual_blocks": blocks or 9}

    def network_config(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """See the base: what the checkpoint says about itself, where it does.

        Raises:
            ConfigError: its arguments are of a network that is not known.
        """
        if checkpoint.about.get("config"):
            return super().network_config(checkpoint)
        official = self.official_config(checkpoint.state)
        args, keys = checkpoint.args, (*official, *_SHAPING)
        said = {key: args[key] for key in keys if key in args}
        # The default number of blocks has changed since; the keys do not lie.
        said.pop("n_residual_blocks", None)
        for key, kind in (("normalize_input_image", bool), ("likelihood_type", str)):
            if not isinstance(said.get(key, official[key]), kind):
                raise ConfigError(f"args.{key} is {said[key]!r}, not a {kind.__name__}")
        return {**official, **said}

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
        """See the base: the information content of the latents."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            x = (pixels.float() / 255).to(next(self.network.parameters()))
            return estimated_bits(self.network.estimate(x)).item()
