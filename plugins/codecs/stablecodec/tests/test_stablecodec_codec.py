import functools
from typing import ClassVar

import pytest
import torch
from lossylens.errors import ConfigError, RequirementError
from lossylens.testing.pictures import picture
from lossylens_codec_stablecodec import network
from lossylens_codec_stablecodec.auxiliary import AuxiliaryEncoder
from lossylens_codec_stablecodec.codec import StableCodecCodec
from lossylens_codec_stablecodec.plugin import register_codecs
from lossylens_toolkit.latent_diffusion.diffusion_suite import LatentDiffusionChecks, write_base
from lossylens_toolkit.latent_diffusion.ldm import build_unet, build_vae, load_module
from lossylens_toolkit.neural_codec.neural_suite import KEEP
from lossylens_toolkit.testing.golden_weights import filled, weights

UNET = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 24,
    "attention_head_dim": [2, 4],
    "use_linear_projection": True,
}
VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32, 32, 32, 32],
    "layers_per_block": 1,
    "latent_channels": 4,
    "sample_size": 64,
}
CODEC = {"M": 16, "features": 16, "context": 16, "context_blocks": 1}
AUXILIARY = {"width": 8, "outputs": 16}
RANK = 2


def with_weights(module):
    """Give a network on the meta device deterministic weights."""
    named = {n: (n, weights(n, v.shape, 0)) for n, v in module.state_dict().items()}
    load_module(module, named, "it")
    return module


def updates(module, targets, adapter):
    """Return low-rank updates in peft's names."""
    state = {}
    for name, each in module.named_modules():
        if targets.search(name):
            shape = each.weight.shape
            for half, size in (("A", (RANK, *shape[1:])), ("B", (shape[0], RANK))):
                full = f"{name}.lora_{half}.{adapter}.weight"
                size = size if half == "A" or len(shape) == 2 else (*size, 1, 1)
                state[full] = weights(full, size, 0)
    return state


class TestStableCodec(LatentDiffusionChecks):
    codec = StableCodecCodec
    register = staticmethod(register_codecs)
    level_names = ("ft16", "ft8", "ft4", "ft2")
    other_names: ClassVar = {"StableCodec_ft4": "ft4", "ft32": "ft32"}
    latents_shape = (16, 4, 4)
    lacking = "state_dict_codec.g_a.pre2.bias"

    @classmethod
    @functools.cache
    def parts(cls):
        unet, vae = with_weights(build_unet(UNET)), with_weights(build_vae(VAE))
        codec = network.build(**CODEC)
        scale = {r"^g_a\.analysis_transform\.4\.blocks\.1\.fc2\.weight$": 4.0}
        state = filled(network.official_state_dict(codec), 0, KEEP, scale)
        state = {f"state_dict_codec.{name}": value for name, value in state.items()}
        for name, value in updates(unet, network.UNET_TARGETS, "default").items():
            state[f"state_dict_unet.{name}"] = value
        for name, value in updates(vae, network.VAE_TARGETS, "vae_skip").items():
            state[f"state_dict_vae.{name}"] = value
        for name, shape in (("weight", (32, 16, 3, 3)), ("bias", (32,))):
            state[f"state_dict_unet.conv_in.{name}"] = weights(f"conv_in.{name}", shape, 0)
        elic = with_weights(AuxiliaryEncoder(**AUXILIARY)).state_dict()
        return unet, vae, state, {f"g_a.{name}": value for name, value in elic.items()}

    @classmethod
    def write_files(cls, folder):
        unet, vae, state, elic = cls.parts()
        folder.mkdir(exist_ok=True)
        (folder / "checkpoints").mkdir(exist_ok=True)
        write_base(folder / "base", unet, UNET, vae, VAE)
        torch.save({**elic, "h_a.0.bias": torch.ones(1)}, folder / "checkpoints/elic_official.pth")
        return dict(state), {"codec": CODEC, "auxiliary": AUXILIARY}

    def test_tiles(self, folder):
        self.tiled(folder)

    def test_updates_are_merged(self, folder):
        """The plain networks with updated weights compute the same as with updates beside."""
        unet, vae, state, _ = self.parts()
        tested = self.build(folder)
        for model, part, module in (
            (tested.unet, "unet", "down_blocks.0.resnets.0.conv1"),
            (tested.vae, "vae", "encoder.mid_block.attentions.0.to_q"),
        ):
            prefix = f"state_dict_{part}.{module}.lora_"
            found = {name: v for name, v in state.items() if name.startswith(prefix)}
            down, up = (found[name] for name in sorted(found))
            base = dict((unet if part == "unet" else vae).named_modules())[module]
            x = torch.randn(1, down.shape[1], 8, 8, generator=torch.Generator().manual_seed(0))
            if down.ndim == 2:
                x = x.flatten(2).transpose(1, 2)
                beside = torch.nn.functional.linear(torch.nn.functional.linear(x, down), up)
            else:
                inner = torch.nn.functional.conv2d(x, down, padding=1)
                beside = torch.nn.functional.conv2d(inner, up)
            with torch.inference_mode():
                expected = base(x) + 8 / RANK * beside
                merged = dict(model.named_modules())[module](x)
            assert torch.allclose(merged, expected, atol=1e-4)
        assert tested.unet.conv_in.in_channels == 16

    def test_an_official_file(self, folder, tmp_path):
        """Three dictionaries in a file of torch, bottleneck in its old names."""
        *_, state, elic = self.parts()
        content = {}
        for name, value in state.items():
            part, _, inner = name.partition(".")
            for new, old in (
                ("matrices.", "_matrix"),
                ("biases.", "_bias"),
                ("factors.", "_factor"),
            ):
                inner = inner.replace(f"entropy_bottleneck.{new}", f"entropy_bottleneck.{old}")
            content.setdefault(part, {})[inner] = value
        torch.save(content, tmp_path / "stablecodec_ft16.pkl")
        torch.save({"state_dict": elic}, tmp_path / "elic_official.pth")
        tested = self.build(folder, checkpoints=tmp_path)
        tested.config = self.build(folder).config
        expected = self.build(folder)
        bitstream = expected.encode(picture(30, 40))
        assert tested.encode(picture(30, 40)) == bitstream
        assert tested.decode(bitstream).tobytes() == expected.decode(bitstream).tobytes()

    def test_updates_that_are_missing(self, folder, tmp_path):
        state, config = self.write_files(tmp_path)
        level = self.codec.levels[0]
        for part, method in (("unet", "unet"), ("vae", "vae")):
            prefix = f"state_dict_{part}."
            without = {n: v for n, v in state.items() if not (n.startswith(prefix) and "lora" in n)}
            self.write_level(tmp_path, level, without, config)
            with pytest.raises(ConfigError, match=r"low-rank updates of \d+ modules are absent"):
                getattr(self.build(tmp_path), method)

    def test_the_auxiliary_encoder_is_missing(self, folder, tmp_path):
        state, config = self.write_files(tmp_path)
        self.write_level(tmp_path, self.codec.levels[0], state, config)
        (tmp_path / "checkpoints/elic_official.pth").unlink()
        with pytest.raises(RequirementError, match=r"no .*elic_official\.pth; get it from"):
            self.build(tmp_path).encode(picture(9, 7))
        (lacking,) = self.spec.requirements(self.build(tmp_path).options)
        assert "elic_official.pth" in lacking.what
