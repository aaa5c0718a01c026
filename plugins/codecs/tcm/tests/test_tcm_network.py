from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_tcm import network
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
from lossylens_toolkit.testing.small_networks import TCM as SMALL

GOLDEN = golden_files(Path(__file__).parent / "golden", "tcm")


class TestNetwork(NetworkChecks):
    network = network
    small = SMALL
    side = 128


@pytest.mark.parametrize("width", [64, 96, 128])
def test_names_and_shapes(width):
    expected = GOLDEN.shapes["variants"].get(f"N={width}", GOLDEN.shapes)
    check_parameters(network, network.build(N=width), expected)


@pytest.mark.parametrize("name", ["tcm-N64-256x256-seed0", "tcm-N64-200x300-seed0"])
def test_golden(name):
    case = GOLDEN.cases[name]
    # In float64, as the codec computes: in float32 some processors round a latent otherwise.
    check_forward(golden_network(network, GOLDEN.expected, case).double(), case)
    if "256x256" in name:
        tested = golden_network(network, GOLDEN.expected, case)
        with torch.inference_mode():
            x_hat = tested(golden_input(case))["x_hat"]
        check_strings(tested, case, x_hat)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GOLDEN.cases if "N64" not in name])
def test_golden_of_the_larger_ones(name):
    case = GOLDEN.cases[name]
    check_forward(golden_network(network, GOLDEN.expected, case), case)


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
