"""Training of the generative codecs on networks as small as they can be."""

import json
import math

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from lossylens.cli import main
from lossylens.errors import ConfigError
from lossylens.registry.plugins import load_registry
from lossylens.testing.pictures import picture
from lossylens_codec_hific import network as hific
from lossylens_codec_msillm import network as msillm
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_toolkit.training.codec_training import train_codec
from lossylens_toolkit.training.generative_training import rate_weight
from lossylens_toolkit.training.klt import begin_as_klt, quantisation_step
from lossylens_toolkit.training.klt_high_fidelity import begin_high_fidelity
from lossylens_toolkit.training.objective import psnr
from lossylens_toolkit.training.perceptual import EncoderDistance, perceptual_distance
from lossylens_toolkit.training.tensor_pictures import prepared_tensors
from lossylens_toolkit.training.training_options import (
    AdversarialOptions,
    CodecTrainingOptions,
    PerceptualOptions,
    PictureOptions,
    RateOptions,
)

NETWORKS = {
    "hific": {"n_residual_blocks": 1, "latent_channels": 10, "hyperlatent_filters": 4},
    "msillm": {"num_residual_blocks": 1, "latent_features": 10, "hyper_features": 4},
}
LEVELS = {"hific": "low", "msillm": "q3"}
DISCRIMINATORS = {"hific": "patch", "msillm": "unet"}


@pytest.fixture(scope="module")
def registry():
    return load_registry(strict=False)


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(2):
        picture(150, 140, seed).save(folder / f"{seed}.png")
    return folder


def options(name, out, folder, **values):
    where = PictureOptions(folders=[folder])
    given = {
        "network": {**NETWORKS[name], "filters": [6, 8, 8, 10, 12]},
        "multiplier": 0.002,
        "rate": RateOptions(target=0.2),
        "perceptual": PerceptualOptions(0.5),
        "adversarial": AdversarialOptions(DISCRIMINATORS[name], width=4, labels=8),
        **{"crop": 128, "batch": 1, "steps": 4, "validate_every": 2, "device": "cpu"},
        **values,
    }
    return CodecTrainingOptions(out, LEVELS[name], train=where, validation=where, **given)


def weights(path):
    return read_checkpoint(path).state


@pytest.mark.parametrize("name", NETWORKS)
def test_stopped_and_resumed_it_is_the_same_training(name, tmp_path, folder, registry):
    """Discriminator, its optimiser and its labels included."""
    lines = []
    straight = train_codec(name, options(name, tmp_path / "one", folder), registry, lines.append)
    assert any("vision encoder of nano, for LPIPS lacks" in line for line in lines)

    def stop(line):
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    chosen = options(name, tmp_path / "two", folder, state_minutes=0)
    with pytest.raises(KeyboardInterrupt):
        train_codec(name, chosen, registry, stop)
    AcceleratorState._reset_state(reset_partial_state=True)
    resumed = train_codec(name, chosen, registry, lines.append)
    assert any(line.startswith("Going on at step 3") for line in lines)
    found, expected = weights(resumed), weights(straight)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    point = json.loads((tmp_path / "one" / "curve.jsonl").read_text().splitlines()[-1])
    assert all(
        math.isfinite(point["training"][key]) and point["training"][key] > 0
        for key in ("perceptual", "adversarial", "discriminator")
    )


def test_a_warm_start_with_only_the_synthesis(tmp_path, folder, registry):
    """As in the second stage of MS-ILLM: what decides the strings stays."""
    plain = {"rate": RateOptions(), "perceptual": PerceptualOptions(), "steps": 2}
    start = train_codec(
        "msillm",
        options("msillm", tmp_path / "one", folder, adversarial=AdversarialOptions(), **plain),
        registry,
        lambda line: None,
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    chosen = options(
        "msillm",
        tmp_path / "two",
        folder,
        start=start,
        network={},
        adversarial=AdversarialOptions("unet", width=4, labels=8, only_synthesis=True),
    )
    tuned = train_codec("msillm", chosen, registry, lambda line: None)
    before, after = weights(start), weights(tuned)
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"decoder"}


def test_the_rate_comes_to_its_target(tmp_path, folder, registry):
    """From above, where its weight is large."""
    chosen = options(
        "hific",
        tmp_path,
        folder,
        **{"begin": "klt", "steps": 60, "learning_rate": 1e-2, "validate_every": 20},
        multiplier=1e-4,
        rate=RateOptions(target=0.3, above=10),
        perceptual=PerceptualOptions(),
        adversarial=AdversarialOptions(),
    )
    train_codec("hific", chosen, registry, lambda line: None)
    points = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    rates = [point["training"]["bpp"] for point in points]
    assert rates[-1] < rates[0]


def test_the_weight_of_the_rate():
    rate = RateOptions(0.14, above=2, below=0.1, relaxed_steps=5, relaxed_target=1.5)
    assert rate_weight(0.15, 10, rate) == 2
    assert rate_weight(0.14, 10, rate) == 0.1
    assert rate_weight(0.20, 0, rate) == 0.1
    assert rate_weight(0.22, 4, rate) == 2
    assert rate_weight(0.22, 4, RateOptions(0.14, relaxed_steps=5, relaxed_weight=0.5)) == 1
    assert rate_weight(5.0, 0, RateOptions()) == 1


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (hific, {"normalize_input_image": False, "latent_channels": 60, "hyperlatent_filters": 8}),
        (hific, {"normalize_input_image": True, "latent_channels": 60, "hyperlatent_filters": 8}),
        (msillm, {"latent_features": 60, "hyper_features": 8}),
    ],
)
def test_beginning_as_a_klt(module, config):
    torch.manual_seed(0)
    network = module.build(filters=[8, 16, 40, 60, 64], **config)
    x = torch.stack([_tensor(picture(256, 256, seed)) for seed in range(2)])
    with torch.inference_mode():
        random = psnr(network(x)["x_hat"], x)
    begin_high_fidelity(network, x, quantisation_step(0.001))
    with torch.inference_mode():
        out = network(x)
    assert random < 12
    assert psnr(out["x_hat"], x) > 20
    bits = {key: -value.log2().sum() for key, value in out["likelihoods"].items()}
    # z would cost as much as y, were its prior as wide as it is built.
    assert bits["z"] < bits["y"] / 4


def test_other_networks_do_not_begin_so():
    with pytest.raises(ConfigError, match="cannot begin as a KLT"):
        begin_as_klt(msillm.build(filters=[4] * 5), torch.rand(1, 3, 64, 64), 0.1)


def test_perceptual_distance_of_the_vision_encoder(registry):
    """It is that of the tower on preprocessed pictures, zero for equal ones, and has a gradient."""
    torch.manual_seed(0)
    image = picture(224, 224)
    x = _tensor(image)[None]
    tower = registry.build_vlm("nano").vision
    distance = EncoderDistance(tower, torch.device("cpu"), "nano")
    (expected,) = tower.hidden_states(tower.prepare([image]), [2])[2]
    (found,) = tower.hidden_states(prepared_tensors(tower, x, "nano"), [2])[2]
    assert torch.allclose(found, expected, atol=1e-4)
    assert distance(x, x).item() == pytest.approx(0, abs=1e-5)
    near = (x + 0.05 * torch.rand_like(x)).requires_grad_()
    far = torch.rand_like(x)
    assert 0 < distance(near, x) < distance(far, x)
    distance(near, x).backward()
    assert near.grad.abs().max() > 0


def test_lpips_without_its_weights_is_refused(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"lpips needs weights alexnet.*download"):
        perceptual_distance("lpips", registry, torch.device("cpu"), print)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rate.target=0", "rate.target must be a number above 0"),
        ("rate.below=-1", "rate.below must be a number and not negative"),
        ("perceptual.weight=.nan", "perceptual.weight must be a number and not negative"),
        ("adversarial.discriminator=cnn", "'cnn' is not one of none, patch, unet"),
    ],
)
def test_options_that_make_no_sense(override, message, tmp_path, folder, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(f"out: {tmp_path}/out\nlevel: low\nmultiplier: 0.01\n")
    assert main(["train", "codec", "hific", str(config), override]) == 2
    assert message in capsys.readouterr().err


def test_other_codecs_have_no_such_losses(tmp_path, folder, registry):
    where = PictureOptions(folders=[folder])
    chosen = CodecTrainingOptions(
        tmp_path, "lambda0.032", train=where, validation=where, rate=RateOptions(target=0.1)
    )
    with pytest.raises(ConfigError, match="are for generative codecs; elic is none"):
        train_codec("elic", chosen, registry, print)


def test_crops_that_a_discriminator_cannot_take(tmp_path, folder, registry):
    with pytest.raises(ConfigError, match="crop: a discriminator needs a multiple of 64"):
        train_codec("hific", options("hific", tmp_path, folder, crop=96), registry, print)


def _tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
