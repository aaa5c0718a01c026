import re
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
from lossylens.testing.weights import filled
from lossylens_codec_elic import network

FOLDER = Path(__file__).parent / "golden"
SHAPES = read_golden(FOLDER / "elic.json.gz")
GOLDEN = read_golden(FOLDER / "elic.expected.json.gz")
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def shapes_of(built):
    official = network.official_state_dict(built)
    return {name: list(value.shape) for name, value in official.items()}


def test_names_and_shapes():
    built = network.build()
    assert shapes_of(built) == SHAPES["parameters"]
    assert sum(value.numel() for value in built.parameters()) == SHAPES["parameter_count"]


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    tested = golden_network(network, GOLDEN, CASES[name])
    check_strings(tested, CASES[name], check_forward(tested, CASES[name]))


SMALL = {"N": 8, "M": 20, "groups": [2, 2, 4, 4, 8], "context": [8, 6], "aggregation": [16, 12]}


def test_names_of_the_public_checkpoints_and_back():
    source, target = network.build(**SMALL), network.build(**SMALL)
    state = filled(network.official_state_dict(source), 1, GOLDEN["fill"]["keep"])
    network.load_official(target, state)
    found = network.official_state_dict(target)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_another_width_is_refused_by_the_names_of_the_file():
    state = network.official_state_dict(network.build(**{**SMALL, "N": 12}))
    expected = "nothing was loaded: 224 of another shape (g_a.0.weight 12x3x5x5 instead of 8x3x5x5"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        network.load_official(network.build(**SMALL), state)


@pytest.mark.parametrize("wrong", [{"num_slices": 4}, {"M": 100}, {"groups": [20]}])
def test_groups_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match="do not make"):
        network.build(**wrong)


def test_the_gradient_reaches_everything_but_the_quantiles():
    small = network.build(**SMALL).train()
    out = small(torch.rand(2, 3, 64, 64))
    rate = sum(-each.log2().sum() for each in out["likelihoods"].values())
    (out["x_hat"].square().sum() + rate).backward()
    lacking = [name for name, value in small.named_parameters() if value.grad is None]
    assert lacking == ["latent_codec.hyper.entropy_bottleneck.quantiles"]
