"""A learned codec that is as small as one can be."""

from collections.abc import Mapping

import torch
from lossylens.codec import Level
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, write_checkpoint
from lossylens_toolkit.neural_codec.compressai import EntropyBottleneck, GaussianConditional
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.neural_codec.variable_rate import VariableRateCodec
from lossylens_toolkit.testing.golden_weights import filled
from torch import nn

KEEP = (r"entropy_bottleneck\.(quantiles|matrices|factors)",)
LEVELS = tuple(Level(f"q{quality}", {"quality": quality}) for quality in (1, 2))


class TinyNetwork(HyperpriorNetwork):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.latent_channels = width
        self.analysis_stages = {0: 8, 2: width}
        self.synthesis_stages = {0: width, 2: 8}
        self.g_a = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, width, 4, 4))
        up = nn.ConvTranspose2d
        self.g_s = nn.Sequential(up(width, 8, 4, 4), nn.ReLU(), up(8, 3, 4, 4))
        self.h_a = nn.Conv2d(width, 4, 4, 4)
        self.h_s = up(4, 2 * width, 4, 4)
        self.entropy_bottleneck = EntropyBottleneck(4)
        self.gaussian_conditional = GaussianConditional(None)

    def hyper_synthesis(self, z_hat):
        return self.h_s(z_hat)

    def walk(self, side, y, coder):
        scales, means = side.chunk(2, 1)
        halves = (None, None) if y is None else y.chunk(2, 1)
        first = coder.code(scales.chunk(2, 1)[0], means.chunk(2, 1)[0], halves[0])
        # The second half depends on the first, as in any context model.
        second = coder.code(scales.chunk(2, 1)[1], means.chunk(2, 1)[1] + first, halves[1])
        return torch.cat([first, second], 1)

    def in_channel_order(self, segments):
        return torch.cat(list(segments), 1)

    def entropy_modules(self):
        return [self.h_s]


class TinyCodec(NeuralCodec):
    name = "tiny"
    package = "lossylens_codec_tiny"
    levels = LEVELS
    padding = Padding(64)

    def build(self, config):
        return TinyNetwork(**config)

    def official_config(self, state):
        return {}

    def load_official(self, network, state):
        load_parameters(network, state)


class GainedTinyCodec(VariableRateCodec):
    name = "tiny-gained"
    package = "lossylens_codec_tiny"
    levels = ()
    padding = Padding(64)
    base = "tiny:TinyCodec"


def tiny_state(seed: int = 0, width: int = 6) -> dict[str, torch.Tensor]:
    state = filled(dict(TinyNetwork(width).named_parameters()), seed, KEEP)
    # Steps of a few grey values, so that symbols vary.
    return {**state, "g_a.2.weight": 20 * state["g_a.2.weight"]}


def write_tiny(path, seed: int = 0, about: Mapping | None = None, width: int = 6) -> None:
    write_checkpoint(path, tiny_state(seed, width), about or {})
