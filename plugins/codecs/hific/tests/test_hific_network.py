from pathlib import Path

import numpy as np
import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_hific import network
from lossylens_codec_hific.priors import ConditionalPrior, FactorisedPrior, logistic_tables
from lossylens_toolkit.neural_codec.coding import Decoder, Encoder
from lossylens_toolkit.neural_codec.high_fidelity_suite import HighFidelityNetworkChecks
from lossylens_toolkit.neural_codec.probability_tables import SCALES
from lossylens_toolkit.testing.golden_gan import check_gan_case
from lossylens_toolkit.testing.golden_networks import read_golden

FOLDER = Path(__file__).parent / "golden"
OFFICIAL = read_golden(FOLDER / "hific.json.gz")
CASES = read_golden(FOLDER / "hific.expected.json.gz")["cases"]
SMALL = {
    "n_residual_blocks": 2,
    "filters": [4, 6, 8, 10, 12],
    "latent_channels": 10,
    "hyperlatent_filters": 8,
}


class TestNetwork(HighFidelityNetworkChecks):
    network = network
    small = SMALL
    parameters = OFFICIAL["parameters"]
    quantiles = None


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['height']}x{case['width']}")
def test_golden(case):
    check_gan_case("hific", network, OFFICIAL["parameters"], case)


def test_names_beside_the_network_are_ignored():
    source, target = network.build(**SMALL), network.build(**SMALL)
    state = network.official_state_dict(source)
    beside = ("Discriminator.conv1.weight_orig", "Hyperprior.prior_entropy_model.CDF")
    network.load_official(target, {**state, **dict.fromkeys(beside, torch.zeros(1))})
    found = network.official_state_dict(target)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_names_of_ours_are_not_taken_for_official_ones():
    tested = network.build(**SMALL)
    with pytest.raises(ConfigError, match=r"absent \(Encoder.*unknown \(g_a"):
        network.load_official(tested, dict(tested.named_parameters()))


def test_tables_of_z_take_less_than_a_second_and_end_in_the_tails():
    prior = FactorisedPrior(320)
    tables = prior.tables()
    x = torch.from_numpy(tables.smallest)[:, None, None] - 0.5
    with torch.no_grad():
        lower = torch.sigmoid(prior.double().logits(x.double()))
        upper = torch.sigmoid(
            -prior.logits(x.double() + torch.from_numpy(tables.escape)[:, None, None])
        )
    assert max(lower.max(), upper.max()) <= 2**-16
    assert tables.escape.max() < 1000


def test_tables_are_bounded_whatever_the_weights():
    prior = FactorisedPrior(2)
    with torch.no_grad():
        prior.H_0.fill_(-50.0)
    assert prior.tables().escape.tolist() == [2**14 + 1] * 2


def test_logistic_tables_are_symmetric_and_as_probable_as_the_distribution():
    tables = logistic_tables()
    for index, scale in enumerate(SCALES):
        half, (_, (cdf,), (size,), _) = -tables.smallest[index], tables.select(np.array([index]))
        pmf = np.diff(np.array(cdf[: size - 1])) / 2**16
        values = np.arange(-half, half + 1)
        assert len(pmf) == 2 * half + 2
        exact = 1 / (1 + np.exp((-values - 0.5) / scale)) - 1 / (
            1 + np.exp((-values + 0.5) / scale)
        )
        assert abs(pmf[:-1] - exact).max() < 4e-3
        assert abs(pmf[:-1] - pmf[:-1][::-1]).max() < 4e-3


@pytest.mark.parametrize("kind", ["gaussian", "logistic"])
def test_escapes_of_any_size_come_back(kind):
    tables = ConditionalPrior(kind).tables()
    y = torch.tensor([0.0, 3, -3, 10, -10, 30, -30, 1000, -70000, 2**28]).reshape(1, 1, 2, 5)
    scales, means = torch.full_like(y, 0.11), torch.zeros_like(y)
    encoder = Encoder(tables)
    encoder.code(scales, means, y)
    decoder = Decoder(encoder.finish(), y.numel(), tables)
    assert torch.equal(decoder.code(scales, means), y)


@pytest.mark.parametrize(
    "wrong", [{"likelihood_type": "laplace"}, {"sample_noise": True}, {"filters": [8, 8]}]
)
def test_networks_that_are_not_known(wrong):
    with pytest.raises(ValueError, match=r"laplace|sample_noise|stages"):
        network.build(**wrong)
