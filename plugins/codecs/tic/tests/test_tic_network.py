import itertools
from pathlib import Path

import pytest
import torch
from lossylens_codec_tic import network
from lossylens_codec_tic.plugin import HP, SERIAL
from lossylens_toolkit.neural_codec.coding import Decoder, Encoder
from lossylens_toolkit.neural_codec.neural_suite import (
    NetworkChecks,
    check_parameters,
    golden_files,
)
from lossylens_toolkit.testing.golden_networks import (
    check_forward,
    check_strings,
    golden_input,
    golden_network,
)
from lossylens_toolkit.testing.small_networks import TIC as SMALL
from torch.nn import functional

GOLDEN = {
    variant: golden_files(Path(__file__).parent / "golden", name)
    for variant, name in ((HP, "tic-hp"), (SERIAL, "tic"))
}
SERIAL_SMALL = {"N": 8, "M": 12, "depths": [1, 1, 1, 2, 1], "num_heads": [2, 2, 2, 2, 2]}


class TestHp(NetworkChecks):
    network = network
    small = SMALL
    side = 256


def small_first(names):
    """The padded picture takes as long again."""
    first, *others = names
    return [first, *(pytest.param(each, marks=pytest.mark.slow) for each in others)]


def case_of(variant, name):
    case = GOLDEN[variant].cases[name]
    return {**case, "config": {**case["config"], "variant": variant}}


@pytest.mark.parametrize("variant", GOLDEN)
def test_names_and_shapes(variant):
    shapes = GOLDEN[variant].shapes
    check_parameters(network, network.build(variant=variant), shapes)
    check_parameters(network, network.build(**shapes["config"]), shapes)


@pytest.mark.parametrize("name", small_first(GOLDEN[HP].cases))
def test_golden_of_hp(name):
    case = case_of(HP, name)
    tested = golden_network(network, GOLDEN[HP].expected, case)
    x_hat = check_forward(tested, case)
    if "256x256" in name:
        check_strings(tested, case, x_hat)


@pytest.mark.parametrize("name", small_first(GOLDEN[SERIAL].cases))
def test_golden_of_the_serial_one(name):
    """What is coded is not what the public forward pass returns; there are numbers of both."""
    case = case_of(SERIAL, name)
    tested = golden_network(network, GOLDEN[SERIAL].expected, case)
    check_forward(tested, case)
    expected = case["stream"]
    with torch.inference_mode():
        coded = tested.compress(golden_input(case))
        decoded = tested.decompress(coded["strings"], coded["shape"])
        sample = torch.tensor(expected["decoded_y_hat_sample"]["values_row_major"])
        y_hat = decoded["y_hat"]
        assert (y_hat[:, ::16, ::2, ::2].flatten() - sample).abs().max() < 5e-4
        height, width = (case["input"]["picture"][side] for side in ("height", "width"))
        x_hat = tested.g_s(y_hat)
        sample = torch.tensor(expected["decoded_x_hat_unclamped_sample"]["values_row_major"])
        found = x_hat[..., :height, :width][:, :, ::8, ::8]
        assert (found.flatten() - sample).abs().max() < 5e-4
    check_strings(tested, case, x_hat)


def test_what_the_serial_one_codes():
    """In waves it comes to what position after position gives."""
    small = network.build(**SERIAL_SMALL, context_heads=3)
    torch.manual_seed(0)
    side, y = torch.randn(1, 24, 3, 7), 3 * torch.randn(1, 12, 3, 7)
    encoder = Encoder()
    with torch.inference_mode():
        found = small.walk(side, y, encoder)
        done = torch.zeros_like(y)
        for row, column in itertools.product(range(3), range(7)):
            around = functional.pad(done, (2, 2, 2, 2))[..., row : row + 5, column : column + 5]
            context = small.context_prediction(around.flatten(2)[..., :12].transpose(1, 2))
            known = torch.cat([side[..., row, column], context], 1)[..., None, None]
            _, mean = small.entropy_parameters(known)[..., 0, 0].chunk(2, 1)
            done[..., row, column] = (y[..., row, column] - mean).round() + mean
        assert (found - done).abs().max() < 1e-5
        decoded = small.walk(side, None, Decoder(encoder.finish(), y.numel()))
    assert torch.equal(decoded, found)


def test_the_gradient_reaches_all_of_the_serial_one():
    small = network.build(**SERIAL_SMALL, context_heads=3).train()
    out = small(torch.rand(1, 3, 128, 128))
    rate = sum(-each.log2().sum() for each in out["likelihoods"].values())
    (out["x_hat"].square().sum() + rate).backward()
    lacking = [name for name, value in small.named_parameters() if value.grad is None]
    assert lacking == ["entropy_bottleneck.quantiles"]


@pytest.mark.parametrize(
    "wrong",
    [{"num_heads": [3] * 6}, {"depths": [1] * 4}, {"variant": "x"}, {"mlp_ratio": -1}],
)
def test_arguments_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match=r"divided|stages|variant|positive"):
        network.build(**{**SMALL, **wrong})
