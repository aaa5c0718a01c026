import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens.testing.pictures import picture
from lossylens_codec_diffeic import network
from lossylens_codec_diffeic.codec import DiffeicCodec
from lossylens_codec_diffeic.plugin import register_codecs
from lossylens_toolkit.latent_diffusion import base_weights as base_module
from lossylens_toolkit.latent_diffusion.chain import CODEC
from lossylens_toolkit.latent_diffusion.control import CONTROL
from lossylens_toolkit.latent_diffusion.diffusion_suite import (
    TEXT,
    LatentDiffusionChecks,
    plain_config,
    text_encoder,
    write_base,
)
from lossylens_toolkit.latent_diffusion.ldm import UNET, VAE
from lossylens_toolkit.testing.golden_diffusion import golden_case, golden_state
from PIL import Image

TINY = golden_case(Path(__file__).parent / "golden", "diffeic-tiny")
CONFIG = TINY.given["config"]


def tiny_state():
    """Return all parameters of the golden chain in official names."""
    chain = network.build_chain(**CONFIG)
    built = {CODEC + name: v for name, v in network.official_state_dict(chain).items()}
    return golden_state(TINY.given["parameters"], 0, TINY.given["fill"], built)


class TestDiffeic(LatentDiffusionChecks):
    codec = DiffeicCodec
    register = staticmethod(register_codecs)
    given: ClassVar = {"steps": 2}
    level_names = ("1_2_16", "1_2_8", "1_2_4", "1_2_2")
    other_names: ClassVar = {"DiffEIC_1_2_4": "1_2_4", "1_2_1": "1_2_1"}
    latents_shape = (32, 8, 4)
    lacking = "preprocess_model.decoder.g_s4.bias"

    @classmethod
    def write_files(cls, folder):
        state = tiny_state()
        chain = network.build_chain(**CONFIG)
        network.load_official(chain, state)
        folder.mkdir(exist_ok=True)
        (folder / "checkpoints").mkdir(exist_ok=True)
        unet, vae = chain.unet, chain.vae
        write_base(folder / "base", unet, plain_config(unet), vae, plain_config(vae))
        own = {name: v for name, v in state.items() if name.startswith((CODEC, CONTROL))}
        config = {"codec": CONFIG["preprocess_config"], "control": CONFIG["control_stage_config"]}
        return own, config

    def test_tiles(self, folder):
        self.tiled(folder, untiled_pixels=64 * 64)

    def test_in_another_process(self, folder, tmp_path):
        """On another number of threads, by the command line."""
        tested = self.build(folder)
        image = picture(30, 40)
        (tmp_path / "photo.bin").write_bytes(tested.encode(image))
        options = ("base", folder / "base"), ("checkpoints", folder / "checkpoints"), ("steps", 2)
        command = [sys.executable, "-m", "lossylens", "decode", "diffeic", "1_2_16"]
        command += [tmp_path / "photo.bin", tmp_path / "photo.png"]
        for name, value in (*options, ("device", "cpu")):
            command += ["--option", f"{name}={value}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "2"}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        with Image.open(tmp_path / "photo.png") as found:
            expected = tested.decode((tmp_path / "photo.bin").read_bytes())
            assert max_difference(found, expected) <= 1

    def test_the_noise_is_the_pictures_own(self, folder):
        """Torch's generators have no part in it, and are left as they were."""
        tested = self.build(folder)
        first, second = (tested.encode(picture(30, 40, seed)) for seed in (0, 1))
        torch.manual_seed(1)
        expected = tested.decode(first)
        state = torch.get_rng_state()
        tested.decode(second)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert tested.decode(first).tobytes() == expected.tobytes()

    def test_an_official_file(self, folder, tmp_path):
        """Under its published name, with what a training framework leaves in it."""
        state, _ = self.write_files(tmp_path)
        (tmp_path / "checkpoints" / "1_2_16").mkdir()
        path = tmp_path / "checkpoints" / "1_2_16" / "lc.ckpt"
        content = {"state_dict": state, "epoch": 3, "callbacks": {Marked: Marked()}}
        torch.save(content, path)
        tested = self.build(folder, checkpoints=tmp_path / "checkpoints")
        assert tested.checkpoint == path
        assert tested.weights.state.keys() == state.keys()
        assert not Marked.made
        with pytest.raises(ConfigError, match="another architecture, nothing was loaded"):
            tested.encode(picture(9, 7))

    def test_the_checkpoint_goes_before_the_base_weights(self, folder, tmp_path):
        state, config = self.write_files(tmp_path)
        name = UNET + "out.2.bias"
        changed = tiny_state()[name] + 5
        self.write_level(tmp_path, self.codec.levels[0], {**state, name: changed}, config)
        assert torch.equal(self.build(tmp_path).unet.conv_out.bias, changed)
        assert torch.equal(self.build(folder).unet.conv_out.bias, tiny_state()[name])

    def test_a_single_file(self, folder, single_file, small_official_size):
        tested, expected = self.build(folder, base=single_file), self.build(folder)
        image = picture(30, 40)
        bitstream = expected.encode(image)
        assert tested.encode(image) == bitstream
        assert torch.equal(tested.context, expected.context)
        assert tested.decode(bitstream).tobytes() == expected.decode(bitstream).tobytes()
        digest = hashlib.sha256(single_file.read_bytes()).hexdigest()
        assert tested.provenance()["base"] == digest
        (kept,) = single_file.parent.glob("v2-1_512-ema-pruned.lossylens-prompt-*")
        assert kept.stat().st_size < 10_000

    def test_a_single_file_of_another_size(self, folder, single_file):
        with pytest.raises(ConfigError, match=r"the VAE is of another architecture"):
            self.build(folder, base=single_file).encode(picture(9, 7))

    def test_a_single_file_that_is_none(self, folder, tmp_path):
        path = tmp_path / "base.ckpt"
        path.write_bytes(b"<html>")
        with pytest.raises(ConfigError, match=r"base\.ckpt: (not a file of|holds objects)"):
            self.build(folder, base=path).encode(picture(9, 7))

    def test_a_single_file_that_predicts_v(
        self, folder, single_file, small_official_size, tmp_path
    ):
        """It is told by its answer to a bright constant."""
        content = torch.load(single_file, weights_only=True)
        content["state_dict"][UNET + "out.2.bias"] -= 5
        torch.save(content, tmp_path / "base.ckpt")
        tested = self.build(folder, base=tmp_path / "base.ckpt")
        bitstream = self.build(folder).encode(picture(9, 7))
        with pytest.raises(ConfigError, match="prediction type of these base weights is v_pred"):
            tested.decode(bitstream)


class Marked:
    """An object of unknown class in a checkpoint."""

    made: ClassVar = []

    def __reduce__(self):
        return (make_marked, (1,))


def make_marked(number):
    Marked.made.append(number)
    return Marked()


def max_difference(one, other):
    pairs = zip(one.convert("RGB").tobytes(), other.tobytes(), strict=True)
    return max(abs(a - b) for a, b in pairs)


@pytest.fixture(scope="module")
def single_file(tmp_path_factory):
    """Base weights as the official single file, in official names."""
    folder = tmp_path_factory.mktemp("single")
    state = {n: v for n, v in tiny_state().items() if n.startswith((UNET, VAE))}
    state |= open_clip(text_encoder())
    state["model_ema.decay"] = torch.zeros(())
    torch.save({"state_dict": state, "global_step": 1}, folder / "v2-1_512-ema-pruned.ckpt")
    return folder / "v2-1_512-ema-pruned.ckpt"


def open_clip(encoder):
    """Return the text encoder in the names of OpenCLIP, and one more block that is not used."""
    state = {}
    own = encoder.state_dict()
    renamed = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for i in range(TEXT["num_hidden_layers"]):
        before, after = f"encoder.layers.{i}.", f"transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            parts = [own[f"{before}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            state[f"{after}attn.in_proj_{kind}"] = torch.cat(parts)
            for new, old in renamed.items():
                state[f"{after}{old}.{kind}"] = own[f"{before}{new}.{kind}"]
    state["token_embedding.weight"] = own["embeddings.token_embedding.weight"]
    state["positional_embedding"] = own["embeddings.position_embedding.weight"]
    for kind in ("weight", "bias"):
        state[f"ln_final.{kind}"] = own[f"final_layer_norm.{kind}"]
    return {f"cond_stage_model.model.{name}": value.clone() for name, value in state.items()}


@pytest.fixture
def small_official_size(monkeypatch):
    """Take the small networks for those of the official file."""
    monkeypatch.setattr(base_module, "SD21_UNET", CONFIG["unet_config"])
    monkeypatch.setattr(base_module, "SD_VAE", CONFIG["first_stage_ddconfig"])
    monkeypatch.setattr(base_module, "TEXT_CONFIG", TEXT)


def test_code_in_a_file_does_not_run(tmp_path):
    """Whatever a pickle calls."""
    from lossylens_toolkit.latent_diffusion.diffusion_weights import read_weights

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": Evil()}, path)
    assert zipfile.is_zipfile(path)
    try:
        found = read_weights(path).state.keys()
    except ConfigError:
        found = {"a"}
    assert found == {"a"}
    assert not (tmp_path / "ran").exists()
