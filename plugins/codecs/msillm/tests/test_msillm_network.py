import re
from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_msillm import network
from lossylens_toolkit.neural_codec.high_fidelity_suite import HighFidelityNetworkChecks
from lossylens_toolkit.testing.golden_gan import check_gan_case
from lossylens_toolkit.testing.golden_networks import read_golden

FOLDER = Path(__file__).parent / "golden"
OFFICIAL = read_golden(FOLDER / "msillm.json.gz")
CASES = read_golden(FOLDER / "msillm.expected.json.gz")["cases"]
SMALL = {
    "num_residual_blocks": 2,
    "filters": [4, 6, 8, 10, 12],
    "latent_features": 10,
    "hyper_features": 8,
}


class TestNetwork(HighFidelityNetworkChecks):
    network = network
    small = SMALL
    parameters = OFFICIAL["parameters"]
    quantiles = "entropy_bottleneck.quantiles"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['height']}x{case['width']}")
def test_golden(case):
    check_gan_case("msillm", network, OFFICIAL["parameters"], case)


def test_old_names_of_the_bottleneck_and_tables():
    source, target = network.build(**SMALL), network.build(**SMALL)
    state = network.official_state_dict(source)
    old = {
        re.sub(r"(matri|bias|factor)(ces|es|s)\.(\d)$", _old, name): value
        for name, value in state.items()
    }
    assert "hyper_bottleneck._matrix0" in old
    tables = ("hyper_bottleneck._quantized_cdf", "latent_bottleneck.scale_table")
    network.load_official(target, {**old, **dict.fromkeys(tables, torch.zeros(2))})
    found = network.official_state_dict(target)
    assert all(torch.equal(found[name], state[name]) for name in state)


def _old(match):
    return f"_{match[1]}{'x' if match[1] == 'matri' else ''}{match[3]}"


def test_names_of_ours_are_not_taken_for_official_ones():
    tested = network.build(**SMALL)
    with pytest.raises(ConfigError, match=r"absent \(decoder.*unknown \(entropy_bottleneck"):
        network.load_official(tested, dict(tested.named_parameters()))


@pytest.mark.parametrize("wrong", [{"in_channels": 1}, {"filters": [8, 8]}, {"hyper_features": 0}])
def test_networks_that_are_not_known(wrong):
    with pytest.raises(ValueError, match=r"channels|stages|hyper"):
        network.build(**wrong)
