import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.errors import BitstreamError
from lossylens_toolkit.neural_codec import checkerboard
from lossylens_toolkit.neural_codec.coding import (
    Decoder,
    Encoder,
    Likelihoods,
    decode_bottleneck,
    encode_bottleneck,
)
from lossylens_toolkit.neural_codec.compressai import EntropyBottleneck, GaussianConditional
from lossylens_toolkit.neural_codec.probability_tables import (
    SCALES,
    bottleneck_tables,
    gaussian_tables,
)


def normal(count, scales, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator) * scales


def coded(y, scales, means):
    encoder = Encoder()
    values = encoder.code(scales, means, y)
    return encoder, encoder.finish(), values


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-(2**29), 2**29) | st.integers(-40, 40), min_size=1, max_size=60),
    scale=st.sampled_from([0.0, 0.11, 0.5, 3.0, 300.0, -1.0]),
)
def test_any_symbols_come_back(values, scale):
    # Half of them in a second segment, whose escapes follow their own values.
    y, scales = (
        torch.tensor(values, dtype=torch.float64),
        torch.full((len(values),), scale).double(),
    )
    half = len(values) // 2
    encoder, means = Encoder(), torch.zeros_like(y)
    parts = [slice(0, half), slice(half, None)]
    for part in parts:
        encoder.code(scales[part], means[part], y[part])
    decoder = Decoder(encoder.finish(), len(values))
    found = [decoder.code(scales[part], means[part]) for part in parts]
    assert torch.cat(found).tolist() == values
    assert decoder.checksum == encoder.checksum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_rounded_about_their_means(dtype):
    means, scales = normal(500, 1.0).to(dtype), torch.full((500,), 2.0, dtype=dtype)
    y = normal(500, 5.0, 1)
    _, string, values = coded(y, scales, means)
    assert torch.equal(values, torch.round(y.to(dtype) - means) + means)
    decoder = Decoder(string, 500)
    assert torch.equal(decoder.code(scales, means), values)


def test_the_string_is_as_long_as_estimated():
    scales = torch.exp(torch.linspace(math.log(0.2), math.log(60), 40_000))
    y, means = normal(40_000, scales), torch.zeros(40_000)
    _, string, _ = coded(y, scales, means)
    estimate = Likelihoods(GaussianConditional(None).eval())
    estimate.code(scales, means, y)
    bits = -torch.cat(estimate.segments).log2().sum().item()
    assert 0.995 < 8 * len(string) / bits < 1.01


def test_each_scale_takes_the_nearest_of_the_table():
    encoder = Encoder()
    scales = torch.tensor([-3.0, 0.0, 0.11, 0.116, 0.118, SCALES[5] * 1.06, SCALES[5] * 1.07, 1e9])
    encoder.code(scales.double(), torch.zeros(8).double(), torch.zeros(8))
    assert encoder._indexes[0].tolist() == [0, 0, 0, 0, 1, 5, 6, 63]
    middle = scales[2:-1].double().numpy()
    nearest = np.abs(np.log(middle)[:, None] - np.log(SCALES)).argmin(1)
    assert encoder._indexes[0].tolist()[2:-1] == nearest.tolist()


def test_escapes_cost_what_they_cost_in_compressai():
    gaussian = GaussianConditional(None)
    gaussian.update_scale_table(SCALES)
    y = normal(2000, 60.0).round()
    # A scale that is rounded up here too.
    scales = torch.full((2000,), 0.99 * SCALES[15])
    indexes = gaussian.build_indexes(scales[None])
    (reference,) = gaussian.compress(y[None], indexes)
    assert len(coded(y, scales, torch.zeros(2000))[1]) == len(reference)


def test_gaussian_tables_are_compressais():
    gaussian = GaussianConditional(None)
    gaussian.update_scale_table(SCALES)
    tables = gaussian_tables()
    assert tables.smallest.tolist() == gaussian.offset.tolist()
    assert (tables.escape + 2).tolist() == gaussian.cdf_length.tolist()
    for row, size, own in zip(
        gaussian.quantized_cdf, gaussian.cdf_length, tables._cdfs, strict=False
    ):
        assert np.abs(np.array(own[:-1]) - row[:size].numpy()).max() <= 2


def test_bottleneck_round_trip():
    bottleneck = EntropyBottleneck(5)
    bottleneck.quantiles.data[:, 0, 1] = torch.arange(5) / 7
    tables = bottleneck_tables(bottleneck)
    medians = bottleneck._get_medians().detach().reshape(1, -1, 1, 1)
    z = normal(5 * 12, 30.0).reshape(1, 5, 3, 4)
    string, z_hat = encode_bottleneck(z, medians, tables)
    assert torch.equal(z_hat, torch.round(z - medians) + medians)
    assert torch.equal(decode_bottleneck(string, (3, 4), medians, tables), z_hat)
    assert tables.checksum == bottleneck_tables(bottleneck).checksum
    bottleneck.biases[0].data += 0.5
    assert tables.checksum != bottleneck_tables(bottleneck).checksum


@settings(max_examples=150, deadline=None)
@given(string=st.binary(max_size=200) | st.just(b"\xff" * 300), scale=st.sampled_from([0.1, 3.0]))
def test_hostile_strings_end(string, scale):
    decoder = Decoder(string, 400)
    try:
        values = decoder.code(torch.full((400,), scale), torch.zeros(400))
    except BitstreamError:
        return
    assert values.abs().max() < 2**33


def test_checkerboard():
    values = torch.arange(24).reshape(1, 1, 4, 6)
    even, odd = checkerboard.split(values)
    assert even[0, 0, :2].tolist() == [[0, 2, 4], [7, 9, 11]]
    assert odd[0, 0, :2].tolist() == [[1, 3, 5], [6, 8, 10]]
    assert torch.equal(checkerboard.merge(even, odd), values)
