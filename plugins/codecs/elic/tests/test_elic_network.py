import re
from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_elic import network
from lossylens_toolkit.neural_codec.neural_suite import (
    KEEP,
    NetworkChecks,
    check_parameters,
    golden_files,
)
from lossylens_toolkit.testing.golden_networks import check_forward, check_strings, golden_network
from lossylens_toolkit.testing.golden_weights import filled

GOLDEN = golden_files(Path(__file__).parent / "golden", "elic")
SMALL = {"N": 8, "M": 20, "groups": [2, 2, 4, 4, 8], "context": [8, 6], "aggregation": [16, 12]}


class TestNetwork(NetworkChecks):
    network = network
    small = SMALL
    quantiles = "latent_codec.hyper.entropy_bottleneck.quantiles"


def test_names_and_shapes():
    check_parameters(network, network.build(), GOLDEN.shapes)


@pytest.mark.parametrize("name", GOLDEN.cases)
def test_golden(name):
    tested = golden_network(network, GOLDEN.expected, GOLDEN.cases[name])
    check_strings(tested, GOLDEN.cases[name], check_forward(tested, GOLDEN.cases[name]))


def test_names_of_the_public_checkpoints_and_back():
    source, target = network.build(**SMALL), network.build(**SMALL)
    state = filled(network.official_state_dict(source), 1, KEEP)
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
