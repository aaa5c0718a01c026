from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_codec_stablecodec import latent_codec, network
from lossylens_codec_stablecodec.auxiliary import AuxiliaryEncoder
from lossylens_toolkit.latent_diffusion.tiles import UNetTiles, VaeTiles
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
CODEC = golden_case(FOLDER, "stablecodec")
TINY = golden_case(FOLDER, "stablecodec-tiny")
AUXILIARY = CODEC.given["auxiliary_encoder_parameters"]


def test_names_and_shapes():
    official = network.official_state_dict(network.build(**CODEC.given["config"]))
    assert {name: list(value.shape) for name, value in official.items()} == CODEC.given[
        "parameters"
    ]
    assert sum(map(torch.numel, official.values())) == CODEC.given["parameter_count"]
    auxiliary = AuxiliaryEncoder().state_dict()
    assert {f"g_a.{name}": list(value.shape) for name, value in auxiliary.items()} == AUXILIARY
    count = sum(map(torch.numel, auxiliary.values()))
    assert count == CODEC.given["auxiliary_encoder_parameter_count"]


def test_passes():
    """Which group of channels is coded where."""
    golden = CODEC.expected["masks_group_position_by_pass"]
    like = torch.zeros(1, 1, 2, 2)
    for k, expected in enumerate(golden):
        assert latent_codec._mask(k, like)[0].flatten(1).tolist() == expected


@pytest.mark.slow
def test_golden():
    tested = network.build(**CODEC.given["config"]).requires_grad_(False)
    expected, fill = CODEC.expected, CODEC.given["fill"]
    built = network.official_state_dict(tested)
    network.load_official(
        tested, golden_state(CODEC.given["parameters"], expected["seed"], fill, built)
    )
    auxiliary = AuxiliaryEncoder().requires_grad_(False)
    elic = golden_state(AUXILIARY, expected["seed"], fill, {})
    network.load_auxiliary(auxiliary, {**elic, "g_s.0.weight": torch.zeros(1)})
    x = golden_picture(expected)
    latent = GoldenNoise(expected["seed"])((1, 4, x.shape[-2] // 8, x.shape[-1] // 8))
    features = auxiliary(x)
    assert_close(features, expected["aux_encoder"])
    out = tested(latent, features)
    for name in ("y", "z"):
        assert_close(out[name], expected[name])
    base = tested.hyper_synthesis(out["z_hat"])
    assert_close(base, expected["base"])
    parameters = tested.adapter_out[0](tested.g_c(tested.adapter_in[0](base)))
    assert_close(parameters, expected["pass0_params_means_then_scales"])
    for name in ("h", "res"):
        assert_close(out[name], expected[f"{name}_forward"])
    _, *bpp = expected["quantised_bpp_total_latent_hyper"]
    for name, each in zip(("y", "z"), bpp, strict=True):
        assert_bits(out["likelihoods"][name], each * x[0, 0].numel())
    tested.set_entropy_dtype(torch.float64)
    decoded = check_golden_strings(tested, (latent, features), expected["stream_lengths_bytes"])
    for name in ("h", "res"):
        assert_close(decoded[name], expected[f"{name}_decompressed"])


def tiny_state(chain):
    built = network.official_state_dict(chain)
    built = {f"codec.{name}": value for name, value in built.items()}
    shapes = dict(TINY.given["parameters"])
    shapes |= {f"codec.{name}": shape for name, shape in CODEC.given["parameters"].items()}
    for name, shape in AUXILIARY.items():
        shapes["aux_codec." + name.removeprefix("g_a.")] = shape
    return golden_state(shapes, TINY.expected["seed"], TINY.given["fill"], built)


@pytest.mark.slow
def test_golden_chain():
    config, expected = TINY.given["config"], TINY.expected
    chain = network.build_chain(**config)
    network.load_official(chain, tiny_state(chain))
    chain.requires_grad_(False)
    context = GoldenNoise(expected["seed"])((1, 7, 24))
    x = golden_picture(expected)
    vae = Vae(chain.vae)
    inputs = network.inputs(vae, chain.aux_codec, x)
    assert_close(inputs[0], expected["vae_latent_scaled_with_lora"])
    decoded = check_golden_strings(chain.codec, inputs, expected["stream_lengths_bytes"])
    for name in ("h", "res"):
        assert_close(decoded[name], expected[name])
    one_step = network.OneStep(chain.unet, context)
    assert_close(one_step.predict(decoded["h"]), expected["eps"])
    latent = one_step.latent(decoded)
    assert_close(latent, expected["x_denoised_plus_res"])
    assert_close(vae.decode(latent).clamp(-1, 1), expected["image_minus1_1"])
    tiled = network.OneStep(chain.unet, context, UNetTiles(24, 8, 24 * 24)).latent(decoded)
    image = vae.decode(tiled).clamp(-1, 1)
    assert_close(image, expected["image_with_unet_tiles_24_overlap_8"])
    tiled_vae = Vae(chain.vae, VaeTiles(128, 32), VaeTiles(16, 11))
    encoded = tiled_vae.encode(2 * x - 1)
    assert_close(encoded, expected["vae_latent_scaled_with_vae_tiles_128_pad_32"])
    image = tiled_vae.decode(latent).clamp(-1, 1)
    assert_close(image, expected["image_with_vae_decoder_tiles_16_pad_11"])


def test_updates_that_lack_a_half_or_a_module():
    config = TINY.given["config"]
    chain = network.build_chain(config["unet"], config["vae"], {"M": 16, "context": 16})
    shapes = {name: s for name, s in TINY.given["parameters"].items() if name.startswith("vae.")}
    state = golden_state(shapes, 0, TINY.given["fill"], {})
    name = "vae.encoder.conv_in.lora_A.vae_skip.weight"
    wrong = (
        {other: value for other, value in state.items() if other != name},
        {**state, "vae.decoder.conv_in.lora_A.vae_skip.weight": state[name]},
        {other: value for other, value in state.items() if ".conv_in.lora_" not in other},
    )
    for each in wrong:
        with pytest.raises(ConfigError, match=r"low-rank updates of \d modules .*conv_in"):
            network.load_official(chain, each, strict=False)
    with pytest.raises(ConfigError, match=r"low-rank update of encoder\.conv_in"):
        network.load_official(chain, {**state, name: state[name][:, :1]}, strict=False)


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="no multiple of 16"):
        network.build(M=100)
