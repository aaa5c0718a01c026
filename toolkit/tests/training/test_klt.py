"""Transforms that begin as a Karhunen-Loève transform."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lossylens.errors import ConfigError
from lossylens.testing.pictures import picture
from lossylens_toolkit.neural_codec.compressai import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
    conv3x3,
    subpel_conv3x3,
)
from lossylens_toolkit.training.klt import begin_as_klt, quantisation_step
from lossylens_toolkit.training.objective import psnr
from torch import nn

FINE = 1e-3


def down(inputs, outputs, size=5):
    return nn.Conv2d(inputs, outputs, size, stride=2, padding=size // 2)


def up(inputs, outputs, size=5):
    half = size // 2
    return nn.ConvTranspose2d(inputs, outputs, size, stride=2, padding=half, output_padding=1)


def plain(width):
    """As ELIC: convolutions with residual blocks and attention between them."""
    g_a = nn.Sequential(
        down(3, 12), ResidualBottleneckBlock(12, 12), down(12, width), AttentionBlock(width)
    )
    g_s = nn.Sequential(
        AttentionBlock(width), up(width, 12), ResidualBottleneckBlock(12, 12), up(12, 3)
    )
    return network(g_a, g_s)


class Twice(nn.Module):
    """Blocks whose identity is added once more."""

    identity_gain = 2.0

    def __init__(self, width):
        super().__init__()
        self.conv = conv3x3(width, width)

    def begin_as_identity(self):
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return 2 * x + self.conv(x)


def twice(width):
    """As TIC: small kernels, with such blocks between them."""
    g_a = nn.Sequential(down(3, 12), Twice(12), down(12, width, 3), Twice(width))
    return network(g_a, nn.Sequential(Twice(width), up(width, 12, 3), Twice(12), up(12, 3)))


def network(g_a, g_s, predictions=()):
    return SimpleNamespace(g_a=g_a, g_s=g_s, residual_predictions=lambda: predictions)


def residual(width):
    """As TCM: residual blocks with strides, and pixel shuffles."""
    g_a = nn.Sequential(
        nn.Sequential(ResidualBlockWithStride(3, 12), ResidualBlock(12, 12)),
        conv3x3(12, width, stride=2),
    )
    g_s = nn.Sequential(
        ResidualBlockUpsample(width, 12), ResidualBlock(12, 12), subpel_conv3x3(12, 3, 2)
    )
    return network(g_a, g_s)


def smooth(width):
    """As MLIC++: the same with GELU."""
    found = residual(width)
    for each in [*found.g_a.modules(), *found.g_s.modules()]:
        if hasattr(each, "leaky_relu"):
            each.leaky_relu = nn.GELU()
    return found


@pytest.fixture(scope="module")
def x():
    return torch.from_numpy(np.array(picture(128, 128))).permute(2, 0, 1)[None] / 255


@torch.no_grad()
def quality(codec, x):
    return psnr(codec.g_s(codec.g_a(x).round()), x)


@pytest.mark.parametrize("transforms", [plain, residual, smooth, twice])
def test_with_all_components_and_fine_steps_almost_nothing_is_lost(transforms, x):
    torch.manual_seed(0)
    codec = transforms(48)
    assert quality(codec, x) < 15
    begin_as_klt(codec, x, FINE)
    assert quality(codec, x) > 32


@pytest.mark.parametrize("transforms", [plain, residual, smooth, twice])
def test_fewer_components_and_coarser_steps_lose_more(transforms, x):
    torch.manual_seed(0)
    values = {}
    for width, step in [(24, FINE), (8, FINE), (8, 0.3)]:
        codec = transforms(width)
        begin_as_klt(codec, x, step)
        values[width, step] = quality(codec, x)
    assert values[24, FINE] > values[8, FINE] + 1 > values[8, 0.3] + 2


@pytest.mark.parametrize("transforms", [plain, twice])
def test_components_are_those_of_an_orthonormal_transform_over_the_step(transforms, x):
    codec = transforms(48)
    step = 0.05
    begin_as_klt(codec, x, step)
    with torch.no_grad():
        # An attention block comes last, but for its gate the identity.
        y = codec.g_a[: 3 if transforms is plain else 4](x) * step
    power = (x - x.mean((2, 3), keepdim=True)).square().sum()
    assert y.square().sum().item() == pytest.approx(power.item(), rel=0.02)
    # Without correlation, the strongest first.
    components = y[0].flatten(1)
    covariance = torch.cov(components)
    strength = covariance.diagonal()
    apart = covariance - torch.diag(strength)
    assert apart.abs().max() < 0.02 * strength[0]
    assert strength[0] == strength.max()


def test_all_weights_have_gradients(x):
    torch.manual_seed(0)
    codec = residual(16)
    begin_as_klt(codec, x, 0.3)
    (codec.g_s(codec.g_a(x)) - x).square().mean().backward()
    for name, layer in [*codec.g_a.named_modules(), *codec.g_s.named_modules()]:
        if isinstance(layer, nn.Conv2d) and layer.weight.abs().max() == 0:
            assert layer.weight.grad.abs().max() > 0, name


def test_the_step_is_where_the_slopes_agree():
    multiplier, step = 0.01, quantisation_step(0.01)

    def cost(step):
        # Per pixel: three coefficients' bits, and the mean over channels of step²/12.
        return -3 * math.log2(step) + multiplier * 255**2 * step**2 / 12

    nearby = [cost(step * factor) for factor in (0.9, 1.0, 1.1)]
    assert min(nearby) == nearby[1]


def test_no_residual_is_predicted_at_first(x):
    codec = plain(16)
    prediction = nn.Sequential(nn.Conv2d(16, 8, 3), nn.GELU(), nn.Sequential(nn.Conv2d(8, 4, 3)))
    begin_as_klt(network(codec.g_a, codec.g_s, [prediction]), x, 0.3)
    assert not prediction(torch.rand(1, 16, 8, 8)).any()


@pytest.mark.parametrize(
    ("g_a", "g_s", "message"),
    [
        ([down(3, 12), nn.Tanh()], [up(12, 3)], "a transform with Tanh cannot begin as a KLT"),
        ([down(3, 12), down(12, 8)], [up(8, 8), up(8, 3)], "a synthesis with 8 channels for 12"),
        ([down(3, 12)], [nn.ConvTranspose2d(12, 3, 2, 2)], "not of size 3 or 5"),
        ([down(3, 12)], [up(12, 3), up(3, 3)], "doubles the sides 2 times, the analysis halves"),
    ],
)
def test_what_cannot_begin_so(g_a, g_s, message, x):
    with pytest.raises(ConfigError, match=message):
        begin_as_klt(network(nn.Sequential(*g_a), nn.Sequential(*g_s)), x, 0.1)
