from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_diffeic import network
from lossylens_toolkit.latent_diffusion.control import ControlledDiffusion, predict
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
CODEC = golden_case(FOLDER, "diffeic")
TINY = golden_case(FOLDER, "diffeic-tiny")


@pytest.fixture(scope="module")
def tiny():
    """All networks of the tiny chain, loaded in official names."""
    chain = network.build_chain(**TINY.given["config"])
    network.load_official(chain, tiny_state(chain))
    return chain.requires_grad_(False)


def tiny_state(chain):
    built = network.official_state_dict(chain)
    built = {f"preprocess_model.{name}": value for name, value in built.items()}
    shapes, fill = TINY.given["parameters"], TINY.given["fill"]
    return golden_state(shapes, TINY.expected["seed"], fill, built)


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
    sizes = [sum(map(torch.numel, part.parameters())) for part in (chain.unet, chain.vae)]
    assert sizes == [865910724, 83653863]
    assert len(chain.control.scale_list) == 25
    assert chain.control.control_model["conv_in"].weight.shape == (64, 8, 3, 3)


@pytest.mark.slow
def test_golden():
    tested = network.build(**CODEC.given["config"]).requires_grad_(False)
    shapes, expected = CODEC.given["parameters"], CODEC.expected
    built = network.official_state_dict(tested)
    state = golden_state(shapes, expected["seed"], CODEC.given["fill"], built)
    network.load_official(tested, {f"preprocess_model.{name}": v for name, v in state.items()})
    x = golden_picture(expected)
    latent = GoldenNoise(expected["seed"])((1, 4, x.shape[-2] // 8, x.shape[-1] // 8))
    out = tested(x, latent)
    for name in ("y", "z", "z_hat"):
        assert_close(out[name], expected[name])
    assert_close(tested.hyper_synthesis(out["z_hat"]), expected["hyper_params"])
    assert_close(tested.f_c(out["z_hat"]), expected["f_c"])
    assert_close(out["c_latent"], expected["c_latent_forward"])
    for name, bits in zip(("y", "z"), expected["bits_quantised_y_z"], strict=True):
        assert_bits(out["likelihoods"][name], bits)
    for dtype in (torch.float32, torch.float64):
        tested.set_entropy_dtype(dtype)
        decoded = check_golden_strings(tested, (x, latent), expected["stream_lengths_bytes"])
        assert_close(decoded["c_latent"], expected["c_latent_decompressed"])


def test_golden_chain(tiny):
    expected = TINY.expected
    noise = GoldenNoise(expected["seed"])
    context = noise((1, 7, 24))
    vae = Vae(tiny.vae)
    inputs = network.inputs(vae, golden_picture(expected))
    assert_close(inputs[1], expected["vae_latent_scaled"])
    assert_close(tiny.codec(*inputs)["y"], expected["y"])
    decoded = check_golden_strings(tiny.codec, inputs, expected["stream_lengths_bytes"])
    latent = decoded["c_latent"]
    assert_close(latent, expected["c_latent"])
    start = GoldenNoise(expected["seed"])
    start((1, 7, 24))
    x = start(latent.shape)
    assert_close(x, expected["x_T"])
    eps = expected["base_unet_eps_at_x_T"]
    assert_close(tiny.unet(x, eps["t"], context, return_dict=False)[0], eps)
    eps = expected["controlled_eps_at_x_T"]
    assert_close(predict(tiny.unet, tiny.control, x, latent, eps["t"], context), eps)
    diffusion = ControlledDiffusion(tiny.unet, tiny.control, context)
    sampled = network.sampled(diffusion, decoded, noise, expected["steps"])
    assert_close(sampled, expected["sampled_latent"])
    image = vae.decode(sampled)
    assert_close(image, expected["image_minus1_1"])
    mean = ((image + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8).double().mean()
    assert abs(mean - expected["image_uint8_mean"]) < 1e-3
    assert_close(vae.decode(latent), expected["vae_decode_of_c_latent"])


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.out.2.bias",
        "first_stage_model.decoder.conv_out.bias",
        "control_model.middle_block_out.0.bias",
        "control_model.control_model.input_blocks.0.0.weight",
        "preprocess_model.decoder.g_s4.bias",
    ],
)
def test_absent_unknown_and_misshapen_parameters_are_refused(tiny, name):
    """So they are in each of the four parts; what training alone needs is no part."""
    state = tiny_state(tiny)
    training = {"logvar": torch.zeros(1000), "cond_stage_model.model.ln_final.bias": state[name]}
    network.load_official(tiny, {**state, **training})
    lacking = {other: value for other, value in state.items() if other != name}
    wrong = (
        (lacking, "1 absent"),
        ({**state, f"{name}x": state[name]}, f"1 unknown \\({name}x\\)"),
        ({**state, name: state[name][:1]}, "1 of another shape"),
    )
    for each, message in wrong:
        with pytest.raises(ConfigError, match=f"nothing was loaded: {message}"):
            network.load_official(tiny, each)
    with pytest.raises(ConfigError, match=r"of another model.*1 unknown \(other\.weight\)"):
        network.load_official(tiny, {**state, "other.weight": state[name]})


def test_old_names_of_the_bottleneck():
    small = network.build(**TINY.given["config"]["preprocess_config"])
    expected = {name: value + 1 for name, value in network.official_state_dict(small).items()}
    old = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}
    state = expected
    for new, spelt in old.items():
        new, spelt = f"entropy_bottleneck.{new}", f"entropy_bottleneck.{spelt}"
        state = {name.replace(new, spelt): value for name, value in state.items()}
    assert not state.keys() >= expected.keys()
    loaded = network.build(**TINY.given["config"]["preprocess_config"])
    network.load_official(loaded, state)
    found = network.official_state_dict(loaded)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("wrong", [{"slice_num": 4}, {"M": 100}, {"enc_mid": [8]}])
def test_arguments_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match=r"do not make|four widths"):
        network.build(**wrong)
