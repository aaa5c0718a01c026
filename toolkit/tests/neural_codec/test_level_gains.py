import math

import pytest
import torch
from lossylens_toolkit.neural_codec.level_gains import LevelGains
from tiny import TinyNetwork

LAMBDAS = [0.04, 0.02, 0.01]
STAGES = {0: 8, 2: 6}, {0: 6, 2: 8}


@pytest.fixture
def network():
    torch.manual_seed(0)
    built = TinyNetwork().double().eval()
    built.update(force=True)
    built.level_gains = LevelGains(LAMBDAS, 0.02, *STAGES).double()
    with torch.no_grad():
        for gains in built.level_gains.parameters():
            gains.add_(torch.randn_like(gains), alpha=0.3)
    return built.requires_grad_(False)


def at(*places):
    return torch.tensor(places, dtype=torch.float64).reshape(1, 1, -1)


def run(network, x, level_map):
    with network.at(level_map):
        return network(x)


def test_a_map_of_one_level_is_that_level_bit_for_bit(network):
    x = torch.rand(1, 3, 128, 192, dtype=torch.float64).contiguous(
        memory_format=torch.channels_last
    )
    network.to(memory_format=torch.channels_last)
    for place in (0, 1, 2, 0.25):
        plain, mapped = (
            run(network, x, torch.full(shape, place)) for shape in ((1, 1, 1), (1, 8, 12))
        )
        assert torch.equal(plain["x_hat"], mapped["x_hat"])
        assert torch.equal(plain["y_hat"], mapped["y_hat"])
    assert not torch.equal(plain["y_hat"], run(network, x, at(1))["y_hat"])


def test_strings_decode_with_their_map(network):
    x = torch.rand(1, 3, 64, 128, dtype=torch.float64)
    level_map = torch.randint(0, 3, (1, 4, 8)).double()
    expected = run(network, x, level_map)["x_hat"].clamp(0, 1)
    with network.at(level_map):
        coded = network.compress(x)
        decoded = network.decompress(coded["strings"], coded["shape"])
    assert (decoded["x_hat"] - expected).abs().max() < 1e-10
    with network.at(at(1)):
        other = network.decompress(coded["strings"], coded["shape"])
    assert (other["x_hat"] - expected).abs().max() > 1e-3


def test_each_position_has_the_gain_of_its_level(network):
    # Nothing of a tiny network reaches across latents, so that each half is as with its level.
    x = torch.rand(1, 3, 64, 128, dtype=torch.float64)
    both = network.level_gains.analyse(network.g_a, x, at(0, 2))
    for place, half in ((0, slice(0, 4)), (2, slice(4, 8))):
        alone = network.level_gains.analyse(network.g_a, x, at(place))
        assert torch.allclose(both[..., half], alone[..., half], atol=1e-12)


def test_gains_begin_as_powers_of_lambda_and_lie_between_levels():
    gains = LevelGains(LAMBDAS, 0.02, *STAGES)
    product = math.prod(table[0, 0].exp().item() for table in gains.analysis.values())
    assert product == pytest.approx((0.04 / 0.02) ** -0.5)
    assert all(table[1].abs().max() == 0 for table in gains.parameters())
    assert gains.place(0.02) == 1
    assert gains.place(math.sqrt(0.02 * 0.01)) == pytest.approx(1.5)
    ones = torch.ones(1, 8, 1, 1)
    middle = gains._multiplied(ones, gains.analysis["0"], at(0.5)).mean()
    assert middle.item() == pytest.approx((0.04 / 0.02) ** -0.125)
    with pytest.raises(ValueError, match=r"outside of 0.01 to 0.04"):
        gains.place(0.05)
    for wrong in ([], [0.01, 0.02], [0.01, 0.0]):
        with pytest.raises(ValueError, match="must be positive and fall"):
            LevelGains(wrong, 0.02, *STAGES)
