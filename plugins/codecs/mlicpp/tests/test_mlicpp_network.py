from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_mlicpp import network
from lossylens_toolkit.neural_codec.neural_suite import (
    KEEP,
    NetworkChecks,
    check_parameters,
    golden_files,
)
from lossylens_toolkit.testing.golden_networks import check_forward, check_strings, golden_network
from lossylens_toolkit.testing.golden_weights import filled

GOLDEN = golden_files(Path(__file__).parent / "golden", "mlicpp")
SMALL = {"N": 8, "M": 16, "slice_num": 4}


class TestNetwork(NetworkChecks):
    network = network
    small = SMALL


def expected_parameters(release):
    """The older network's differences are stored; None stands for a name that it lacks."""
    if release == "2024":
        return GOLDEN.shapes
    old = GOLDEN.shapes["old_2023_variant"]
    return {**old, "parameters": {**GOLDEN.shapes["parameters"], **old["parameters"]}}


@pytest.mark.parametrize("release", ["2023", "2024"])
def test_names_and_shapes(release):
    check_parameters(network, network.build(release=release), expected_parameters(release))


@pytest.mark.parametrize("name", GOLDEN.cases)
def test_golden(name):
    tested = golden_network(network, GOLDEN.expected, GOLDEN.cases[name])
    x_hat = check_forward(tested, GOLDEN.cases[name])
    if "128x128" in name:
        check_strings(tested, GOLDEN.cases[name], x_hat)


@pytest.mark.parametrize("release", ["2023", "2024"])
def test_strings_of_either_release(release):
    small = network.build(**SMALL, release=release)
    network.load_official(small, filled(network.official_state_dict(small), 2, KEEP))
    # In float64, as the codec computes: in float32 some processors round a latent of two
    # pictures at once otherwise than of each alone.
    small.double()
    x = torch.rand(2, 3, 128, 192, generator=torch.Generator().manual_seed(0)).double()
    with torch.inference_mode():
        x_hat = torch.cat([small(each)["x_hat"] for each in x.split(1)])
    coded = small.compress(x)
    decoded = small.decompress(coded["strings"], coded["shape"])
    assert decoded["checksums"] == coded["checksums"]
    assert torch.allclose(decoded["x_hat"], x_hat.clamp(0, 1), atol=1e-5)


def test_another_release_is_refused():
    state = network.official_state_dict(network.build(**SMALL, release="2023"))
    with pytest.raises(ConfigError, match=r"nothing was loaded: .*lrp_transform"):
        network.load_official(network.build(**SMALL), state)


@pytest.mark.parametrize("wrong", [{"M": 15}, {"M": 12}, {"context_window": 4}, {"release": "x"}])
def test_arguments_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match=r"slices|release"):
        network.build(**{**SMALL, **wrong})
