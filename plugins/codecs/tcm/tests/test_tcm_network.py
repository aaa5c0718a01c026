from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens.testing.golden_networks import (
    check_forward,
    check_strings,
    golden_network,
    read_golden,
)
from lossylens_codec_tcm import network

FOLDER = Path(__file__).parent / "golden"
SHAPES = read_golden(FOLDER / "tcm.json.gz")
GOLDEN = read_golden(FOLDER / "tcm.expected.json.gz")
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def shapes_of(built):
    official = network.official_state_dict(built)
    return {name: list(value.shape) for name, value in official.items()}


@pytest.mark.parametrize("width", [64, 96, 128])
def test_names_and_shapes(width):
    expected = SHAPES["variants"].get(f"N={width}", SHAPES)
    built = network.build(N=width)
    assert shapes_of(built) == expected["parameters"]
    count = sum(value.numel() for value in built.parameters())
    assert count == expected["parameter_count"]


@pytest.mark.parametrize("name", ["tcm-N64-256x256-seed0", "tcm-N64-200x300-seed0"])
def test_golden(name):
    tested = golden_network(network, GOLDEN, CASES[name])
    x_hat = check_forward(tested, CASES[name])
    if "256x256" in name:
        check_strings(tested, CASES[name], x_hat)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if "N64" not in name])
def test_golden_of_the_larger_ones(name):
    check_forward(golden_network(network, GOLDEN, CASES[name]), CASES[name])


SMALL = {
    "N": 8,
    "M": 10,
    "head_dim": [4, 4, 8, 8, 4, 4],
    "z_channels": 6,
    "attention_width": 16,
    "context": [8, 6],
}


def test_another_width_is_refused():
    state = network.official_state_dict(network.build(**{**SMALL, "N": 16}))
    with pytest.raises(ConfigError, match=r"nothing was loaded: .*g_a\.0\.conv1\.weight"):
        network.load_official(network.build(**SMALL), state)


@pytest.mark.parametrize(
    "wrong", [{"M": 11}, {"N": 9}, {"drop_path_rate": 0.1}, {"max_support_slices": 3}]
)
def test_arguments_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match=r"divided|not implemented"):
        network.build(**{**SMALL, **wrong})


def test_the_gradient_reaches_everything_but_the_quantiles():
    small = network.build(**SMALL).train()
    out = small(torch.rand(2, 3, 128, 128))
    rate = sum(-each.log2().sum() for each in out["likelihoods"].values())
    (out["x_hat"].square().sum() + rate).backward()
    lacking = [name for name, value in small.named_parameters() if value.grad is None]
    assert lacking == ["entropy_bottleneck.quantiles"]
