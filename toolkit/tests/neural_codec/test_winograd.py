"""Convolutions by Winograd's algorithm, compared with torch's."""

import pytest
import torch
from lossylens_toolkit.neural_codec import winograd
from lossylens_toolkit.neural_codec.winograd import Winograd
from torch import nn

CASES = [
    (nn.Conv2d(128, 130, 3, padding=1), (2, 17, 19)),
    (nn.Conv2d(16, 20, 5, padding=2), (1, 16, 16)),
    (nn.Conv2d(16, 16, 5, padding=2, bias=False), (3, 61, 9)),
    (nn.ConvTranspose2d(130, 128, 5, 2, 2, 1), (1, 17, 31)),
    (nn.ConvTranspose2d(16, 24, 5, 2, 2, 1, bias=False), (2, 16, 18)),
    (nn.Conv2d(130, 128, 5, 2, 2), (1, 18, 32)),
    (nn.Conv2d(16, 24, 5, 2, 2, bias=False), (2, 16, 34)),
    (nn.Conv2d(32, 30, 3), (2, 19, 22)),
    (nn.Conv2d(16, 16, 5, bias=False), (1, 20, 16)),
]
FEW_OUTPUTS = [
    (nn.Conv2d(32, 3, 3, padding=1), (2, 17, 19)),
    (nn.Conv2d(3, 12, 5, padding=2, bias=False), (1, 24, 16)),
]


@pytest.fixture
def replaced(monkeypatch):
    """Counts the convolutions that are computed otherwise."""
    calls, convolve = [], winograd.convolve

    def counting(*given):
        calls.append(given)
        return convolve(*given)

    monkeypatch.setattr(winograd, "convolve", counting)
    return calls


def examples(layer, batch_height_width):
    batch, height, width = batch_height_width
    return torch.randn(batch, layer.in_channels, height, width, dtype=torch.float64)


@pytest.mark.parametrize(("layer", "shape"), CASES)
def test_the_same_values(layer, shape, replaced, monkeypatch):
    monkeypatch.setattr(winograd, "_POSITIONS", 1)
    monkeypatch.setattr(winograd, "_STRIP", 2**14)
    layer = layer.double()
    x = examples(layer, shape)
    expected = layer(x)
    with Winograd():
        found = layer(x)
    assert len(replaced) == 1
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("layer", "shape"), FEW_OUTPUTS)
def test_few_outputs(layer, shape, monkeypatch):
    calls, few_outputs = [], winograd._few_outputs
    monkeypatch.setattr(
        winograd, "_few_outputs", lambda *given: calls.append(given) or few_outputs(*given)
    )
    layer = layer.double()
    x = examples(layer, shape)
    expected = layer(x)
    with Winograd():
        found = layer(x)
    assert len(calls) == 1
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.Conv2d(3, 32, 5, padding=2, stride=2),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 3, padding=2),
        nn.Conv2d(32, 3, 3),
        nn.Conv2d(32, 32, 1),
        nn.Conv2d(32, 3, 3, padding=2),
        nn.ConvTranspose2d(32, 32, 5, 2, 2),
        nn.ConvTranspose2d(32, 32, 3, 2, 1, 1),
    ],
)
def test_other_convolutions_are_left_alone(layer, replaced):
    x = examples(layer.double(), (1, 24, 24))
    with torch.inference_mode():
        expected = layer(x)
        with Winograd():
            assert torch.equal(layer(x), expected)
    assert not replaced


def test_a_large_kernel_wants_more_positions(replaced, monkeypatch):
    """To transform it takes longer than to convolve few positions with it."""
    monkeypatch.setattr(winograd, "_LARGE", 32 * 32 * 36)
    layer = nn.Conv2d(32, 32, 3, padding=1).double()
    for side, calls in ((31, 0), (32, 1)):
        x = examples(layer, (1, side, side))
        with Winograd():
            layer(x)
        assert len(replaced) == calls


def test_odd_sides_at_stride_2_are_left_alone(replaced):
    layer, x = nn.Conv2d(32, 32, 5, 2, 2).double(), torch.randn(1, 32, 25, 24).double()
    with torch.inference_mode():
        expected = layer(x)
        with Winograd():
            assert torch.equal(layer(x), expected)
    assert not replaced


def test_float32_is_left_alone(replaced):
    layer, x = nn.Conv2d(128, 128, 3, padding=1), torch.randn(1, 128, 24, 24)
    with torch.inference_mode():
        expected = layer(x)
        with Winograd():
            assert torch.equal(layer(x), expected)
    assert not replaced
