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
from lossylens_codec_mlicpp import network

FOLDER = Path(__file__).parent / "golden"
SHAPES = read_golden(FOLDER / "mlicpp.json.gz")
GOLDEN = read_golden(FOLDER / "mlicpp.expected.json.gz")
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def shapes_of(built):
    official = network.official_state_dict(built)
    return {name: list(value.shape) for name, value in official.items()}


def expected_shapes(release):
    """The older network's differences are stored; None stands for a name that it lacks."""
    if release == "2024":
        return SHAPES["parameters"], SHAPES["parameter_count"]
    old = SHAPES["old_2023_variant"]
    shapes = {**SHAPES["parameters"], **old["parameters"]}
    return {k: v for k, v in shapes.items() if v is not None}, old["parameter_count"]


@pytest.mark.parametrize("release", ["2023", "2024"])
def test_names_and_shapes(release):
    built = network.build(release=release)
    shapes, count = expected_shapes(release)
    assert shapes_of(built) == shapes
    assert sum(value.numel() for value in built.parameters()) == count


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    tested = golden_network(network, GOLDEN, CASES[name])
    x_hat = check_forward(tested, CASES[name])
    if "128x128" in name:
        check_strings(tested, CASES[name], x_hat)


SMALL = {"N": 8, "M": 16, "slice_num": 4}


@pytest.mark.parametrize("release", ["2023", "2024"])
def test_strings_of_either_release(release):
    small = network.build(**SMALL, release=release)
    state = filled(network.official_state_dict(small), 2, GOLDEN["fill"]["keep"])
    network.load_official(small, state)
    x = torch.rand(2, 3, 128, 192, generator=torch.Generator().manual_seed(0))
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


def test_the_gradient_reaches_everything_but_the_quantiles():
    small = network.build(**SMALL).train()
    out = small(torch.rand(2, 3, 64, 64))
    rate = sum(-each.log2().sum() for each in out["likelihoods"].values())
    (out["x_hat"].square().sum() + rate).backward()
    lacking = [name for name, value in small.named_parameters() if value.grad is None]
    assert lacking == ["entropy_bottleneck.quantiles"]
