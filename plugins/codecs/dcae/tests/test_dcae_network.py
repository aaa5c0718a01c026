from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_dcae import network
from lossylens_toolkit.neural_codec.neural_suite import (
    NetworkChecks,
    check_parameters,
    golden_files,
)
from lossylens_toolkit.testing.golden_networks import check_forward, check_strings, golden_network
from lossylens_toolkit.testing.small_networks import DCAE as SMALL

GOLDEN = golden_files(Path(__file__).parent / "golden", "dcae")


class TestNetwork(NetworkChecks):
    network = network
    small = SMALL
    side = 128


def test_golden():
    case = GOLDEN.cases["dcae-256x256-seed0"]
    assert case["config"] == GOLDEN.shapes["config"]
    tested = golden_network(network, GOLDEN.expected, case)
    check_parameters(network, tested, GOLDEN.shapes)
    # Untrained, most latents are outliers, which cost most where a scale is rounded down.
    check_strings(tested, case, check_forward(tested, case), nearly=0.02)


@pytest.mark.slow
def test_golden_of_a_padded_picture():
    """In float64, as the codec computes: a latent is 2e-7 away from being rounded otherwise."""
    case = GOLDEN.cases["dcae-200x300-seed0"]
    check_forward(golden_network(network, GOLDEN.expected, case).double(), case)


def test_another_width_is_refused():
    state = network.official_state_dict(network.build(**{**SMALL, "N": 16}))
    with pytest.raises(ConfigError, match=r"nothing was loaded: .*h_a\.0\.conv\.weight"):
        network.load_official(network.build(**SMALL), state)


def test_sides_of_128():
    """The public network fails with them."""
    small = network.build(**SMALL)
    x = torch.rand(1, 3, 128, 256)
    coded = small.compress(x)
    assert coded["shape"] == (2, 4)
    assert small.decompress(coded["strings"], coded["shape"])["x_hat"].shape == x.shape


def test_arguments_of_no_effect():
    built = network.build(**SMALL, drop_path_rate=0.1, max_support_slices=-1)
    official = network.official_state_dict(network.build(**SMALL))
    assert network.official_state_dict(built).keys() == official.keys()


@pytest.mark.parametrize(
    "wrong", [{"M": 11}, {"N": 9}, {"max_support_slices": 3}, {"blocks": [1, 1]}]
)
def test_arguments_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match=r"divided|not implemented|for three"):
        network.build(**{**SMALL, **wrong})
