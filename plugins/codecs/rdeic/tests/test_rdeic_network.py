from pathlib import Path

import pytest
import torch
from lossylens.errors import BitstreamError, ConfigError
from lossylens_codec_rdeic import network
from lossylens_codec_rdeic.compression import Codebook
from lossylens_toolkit.latent_diffusion.control import ControlledDiffusion, predict
from lossylens_toolkit.latent_diffusion.ldm import SCALE
from lossylens_toolkit.latent_diffusion.sampling import noised, sample, schedule
from lossylens_toolkit.latent_diffusion.vae import Vae
from lossylens_toolkit.testing.golden_diffusion import (
    GoldenNoise,
    assert_bits,
    assert_close,
    check_golden_strings,
    golden_case,
    golden_picture,
    golden_state,
)

FOLDER = Path(__file__).parent / "golden"
CODEC = golden_case(FOLDER, "rdeic")
TINY = golden_case(FOLDER, "rdeic-tiny")


def tiny_state():
    shapes, fill = TINY.given["parameters"], TINY.given["fill"]
    return golden_state(shapes, TINY.expected["seed"], fill, {})


@pytest.fixture(scope="module")
def tiny():
    """All networks of the tiny chain, loaded in official names."""
    chain = network.build_chain(**TINY.given["config"])
    network.load_official(chain, tiny_state())
    return chain.requires_grad_(False)


def test_names_and_shapes():
    official = network.official_state_dict(network.build(**CODEC.given["config"]))
    assert {name: list(value.shape) for name, value in official.items()} == CODEC.given[
        "parameters"
    ]
    assert sum(map(torch.numel, official.values())) == CODEC.given["parameter_count"]
    assert official.keys() == network.official_state_dict(network.build()).keys()


def test_the_official_size():
    with torch.device("meta"):
        chain = network.build_chain()
    assert len(chain.control.scale_list) == 25
    assert chain.control.control_model["conv_in"].weight.shape == (64, 260, 3, 3)


@pytest.mark.slow
def test_golden():
    tested = network.build(**CODEC.given["config"]).requires_grad_(False)
    expected = CODEC.expected
    state = golden_state(CODEC.given["parameters"], expected["seed"], CODEC.given["fill"], {})
    buffers = {"quantize.embed_prob": torch.zeros(16384), "quantize.usage": torch.zeros(16384)}
    given = {**state, **buffers}
    network.load_official(tested, {f"preprocess_model.{name}": v for name, v in given.items()})
    height, width = expected["input_size"]
    features = SCALE * GoldenNoise(expected["seed"])((1, 512, height // 8, width // 8))
    out = tested(features)
    for name in ("y", "z"):
        assert_close(out[name], expected[name])
    assert tested.quantize.nearest(out["z"]).tolist() == expected["z_indices"]
    assert_close(out["z_hat"], expected["z_q"])
    assert_close(tested.hyper_synthesis(out["z_hat"]), expected["hyper_params"])
    assert_close(out["c_latent"], expected["c_latent_forward"])
    assert_close(out["guide_hint"], expected["guide_hint_forward"])
    assert_bits(out["likelihoods"]["y"], expected["bits_quantised_y"][0])
    for dtype in (torch.float32, torch.float64):
        tested.set_entropy_dtype(dtype)
        decoded = check_golden_strings(tested, (features,), expected["stream_lengths_bytes"])
        assert_close(decoded["c_latent"], expected["c_latent_decompressed"])
        assert_close(decoded["guide_hint"], expected["guide_hint_decompressed"])
    # The official string ends with the bits 0 and 1 and zeros.
    (string,) = tested.compress(features)["strings"][1]
    official = int(expected["z_stream_hex"], 16)
    assert int.from_bytes(string) >> 4 == official >> 4


def test_golden_chain(tiny):
    expected = TINY.expected
    noise = GoldenNoise(expected["seed"])
    context = noise((1, 7, 24))
    vae = Vae(tiny.vae)
    inputs = network.inputs(vae, golden_picture(expected))
    assert_close(inputs[0], expected["vae_feature_scaled"])
    out = tiny.codec(*inputs)
    assert_close(out["y"], expected["y"])
    assert tiny.codec.quantize.nearest(out["z"]).tolist() == expected["z_indices"]
    decoded = check_golden_strings(tiny.codec, inputs, expected["stream_lengths_bytes"])
    latent, hint = decoded["c_latent"], decoded["guide_hint"]
    assert_close(latent, expected["c_latent"])
    assert_close(hint, expected["guide_hint"])
    start = GoldenNoise(expected["seed"])
    start((1, 7, 24))
    x = noised(latent, start(latent.shape), float(schedule()[299]))
    assert_close(x, expected["x_T"])
    eps = expected["base_unet_eps_at_x_T"]
    assert_close(tiny.unet(x, eps["t"], context, return_dict=False)[0], eps)
    eps = expected["controlled_eps_at_x_T"]
    assert_close(predict(tiny.unet, tiny.control, x, hint, eps["t"], context), eps)
    diffusion = ControlledDiffusion(tiny.unet, tiny.control, context)
    sampled = network.sampled(diffusion, decoded, noise, expected["steps"])
    assert_close(sampled, expected["sampled_latent"])
    guided = ControlledDiffusion(tiny.unet, tiny.control, context, guidance=1.5)
    other = sample(
        lambda x, t: guided.predict(x, hint, t),
        x,
        expected["timesteps"],
        schedule(),
        GoldenNoise(expected["seed"] + 1000),
    )
    assert_close(other, expected["sampled_latent_guidance_1_5_noise_stream_seed_plus_1000"])
    image = vae.decode(sampled)
    assert_close(image, expected["image_minus1_1"])
    mean = ((image + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8).double().mean()
    assert abs(mean - expected["image_uint8_mean"]) < 1e-3
    assert_close(vae.decode(latent), expected["vae_decode_of_c_latent"])


@pytest.mark.parametrize(
    "name", ["control_model.dec_zero_convs_out.8.0.bias", "preprocess_model.out.bias"]
)
def test_absent_unknown_and_misshapen_parameters_are_refused(tiny, name):
    state = tiny_state()
    lacking = {other: value for other, value in state.items() if other != name}
    wrong = (
        (lacking, "1 absent"),
        ({**state, f"{name}x": state[name]}, f"1 unknown \\({name}x\\)"),
        ({**state, name: state[name][:1]}, "1 of another shape"),
    )
    for each, message in wrong:
        with pytest.raises(ConfigError, match=f"nothing was loaded: {message}"):
            network.load_official(tiny, each)


@pytest.mark.parametrize("size", [1, 2, 5, 64, 16384])
def test_indexes_and_back(size):
    codebook = Codebook(size, 3)
    indexes = torch.randint(size, (77,), generator=torch.Generator().manual_seed(0))
    string = codebook.pack(indexes)
    assert len(string) == -(-77 * codebook.bits // 8)
    assert torch.equal(codebook.unpack(string, 77), indexes)
    for wrong in (string[:-1], string + b"\0", b""):
        with pytest.raises(BitstreamError, match="string of indexes"):
            codebook.unpack(wrong, 77)


def test_an_index_beyond_the_codebook():
    codebook = Codebook(5, 3)
    with pytest.raises(BitstreamError, match="not in the codebook"):
        codebook.unpack(b"\xe0", 1)


def test_of_equally_near_entries_the_first():
    codebook = Codebook(3, 2)
    codebook.embedding.weight.data = torch.tensor([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0]])
    assert codebook.nearest(torch.tensor([[[[1.0]], [[0.0]]]])).tolist() == [1]


@pytest.mark.parametrize("wrong", [{"slice_num": 4}, {"M": 100}])
def test_arguments_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match="do not make"):
        network.build(**wrong)
