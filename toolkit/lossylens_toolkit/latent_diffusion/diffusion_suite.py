"""What a codec on latent diffusion is tested for, on networks as small as they can be.

A plugin's tests derive from :class:`LatentDiffusionChecks` and add what is particular to
the codec.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lossylens.codec import CodecSpec, Level
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.testing.pictures import picture
from lossylens.testing.registering import registered
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from lossylens_toolkit.latent_diffusion.diffusion_codec import LatentDiffusionCodec
from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.testing.golden_weights import weights

#: A text encoder as small as it can be, for a UNet that takes contexts of 24 channels.
TEXT: Mapping[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "hidden_act": "gelu",
    "projection_dim": 24,
}


def write_part(folder: Path, module: nn.Module, config: Mapping[str, Any]) -> None:
    """Write configuration and weights of a part of a folder in diffusers' layout."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    name = "model" if isinstance(module, CLIPTextModel) else "diffusion_pytorch_model"
    save_file(
        {name: value.contiguous() for name, value in module.state_dict().items()},
        folder / f"{name}.safetensors",
    )


def write_base(
    folder: Path,
    unet: nn.Module,
    unet_config: Mapping[str, Any],
    vae: nn.Module,
    vae_config: Mapping[str, Any],
) -> None:
    """Write base weights in diffusers' layout."""
    write_part(folder / "unet", unet, unet_config)
    write_part(folder / "vae", vae, vae_config)
    write_part(folder / "text_encoder", text_encoder(), TEXT)
    set_prediction(folder, "epsilon")


def set_prediction(folder: Path, predicted: str) -> None:
    """Let base weights say what they predict."""
    (folder / "scheduler").mkdir(exist_ok=True)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({"prediction_type": predicted}))


def text_encoder() -> CLIPTextModel:
    """Return the small text encoder, with deterministic weights."""
    encoder = CLIPTextModel(CLIPTextConfig(**TEXT)).eval()
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            value.copy_(weights(name, value.shape, 0))
    return encoder


def plain_config(module: Any) -> dict[str, Any]:
    """Return the configuration of a network of diffusers."""
    return {key: value for key, value in module.config.items() if not key.startswith("_")}


class LatentDiffusionChecks:
    """Checks of a codec on latent diffusion.

    Subclasses write the files of a small codec with :meth:`write_files`.

    Attributes:
        codec: the class.
        register: the plugin's hook.
        given: options that make it faster.
        level_names: of the published levels.
        other_names: of levels that have other names, by another name of theirs.
        latents_shape: of a picture 70 high and 50 wide.
        lacking: a parameter of the checkpoint.
    """

    codec: ClassVar[type[LatentDiffusionCodec]]
    register: ClassVar[Callable[[Callable[[CodecSpec], None]], None]]
    given: ClassVar[Mapping[str, Any]] = {}
    level_names: ClassVar[Sequence[str]]
    other_names: ClassVar[Mapping[str, str]]
    latents_shape: ClassVar[tuple[int, int, int]]
    lacking: ClassVar[str]

    @classmethod
    def write_files(cls, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Write base weights into ``base``, and other files into ``checkpoints``.

        Return the parameters of a checkpoint in official names, and the ``config`` of a
        checkpoint of lossylens.
        """
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with base weights and the checkpoints of two levels."""
        folder: Path = tmp_path_factory.mktemp("files")
        (folder / "checkpoints").mkdir()
        state, config = cls.write_files(folder)
        for factor, level in zip((1.0, 1.01), cls.codec.levels[:2], strict=True):
            changed = {name: factor * value for name, value in state.items()}
            cls.write_level(folder, level, changed, config)
        return folder

    @classmethod
    def write_level(
        cls, folder: Path, level: Level, state: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> None:
        """Write the checkpoint of a level."""
        about = {"codec": cls.codec.name, "level": level.name, "config": config}
        path = folder / "checkpoints" / f"{level.name}.safetensors"
        write_checkpoint(path, state, about)

    @property
    def spec(self) -> CodecSpec:
        """What the plugin registers."""
        return registered(type(self).register)

    def build(self, folder: Path, level: int = 0, **options: Any) -> LatentDiffusionCodec:
        """Return the codec at one of its levels, by default the lowest."""
        given = {"checkpoints": folder / "checkpoints", "base": folder / "base", "device": "cpu"}
        made = self.spec.options(**{**given, **self.given, **options})
        return self.codec(self.codec.levels[level], made)

    def test_pictures_of_any_size_come_back(self, folder: Path) -> None:
        """The same ones, whatever was decoded before, alone or among others."""
        tested = self.build(folder)
        images = [picture(1, 1), picture(70, 50), picture(64, 64)]
        bitstreams = tested.encode_batch(images)
        decoded = tested.decode_batch(bitstreams)
        assert [each.size for each in decoded] == [each.size for each in images]
        other = self.build(folder, entropy_dtype="float32")
        for bitstream, image in zip(bitstreams[::-1], decoded[::-1], strict=True):
            assert other.decode(bitstream).tobytes() == image.tobytes()
        assert [tested.encode(image) for image in images] == bitstreams
        values = np.asarray(decoded[1])
        assert len(np.unique(values)) > 8

    def test_bad_bitstreams(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are refused before any network runs."""
        tested, other = self.build(folder), self.build(folder, level=1)
        bitstream = tested.encode(picture(9, 7))
        foreign = other.encode(picture(9, 7))
        lowest, second = (level.name for level in self.codec.levels[:2])

        def run(*arguments: Any, **options: Any) -> None:
            raise AssertionError("a network ran")

        monkeypatch.setattr(nn.Module, "__call__", run)
        wrong = (
            b"",
            b"\0" * 99,
            bitstream[:-1],
            bitstream + b"\0",
            bitstream[: len(bitstream) // 2],
        )
        for each in wrong:
            with pytest.raises(BitstreamError, match=r"checksum|not a bitstream"):
                tested.decode(each)
        message = f"of {self.codec.name}/{second}; this is {self.codec.name}/{lowest}"
        with pytest.raises(BitstreamError, match=message):
            tested.decode(foreign)
        small = self.build(folder, max_pixels=10)
        with pytest.raises(BitstreamError, match="at most 10 are admitted"):
            small.decode(bitstream)

    def test_other_weights(self, folder: Path, tmp_path: Path) -> None:
        """A bitstream that was coded with others is refused."""
        bitstream = self.build(folder).encode(picture(9, 7))
        for part in ("base", "checkpoints"):
            shutil.copytree(folder / part, tmp_path / part)
        state, config = self.write_files(tmp_path / "again")
        changed = {name: 1.02 * value for name, value in state.items()}
        self.write_level(tmp_path, self.codec.levels[0], changed, config)
        with pytest.raises(BitstreamError, match="other weights"):
            self.build(tmp_path).decode(bitstream)

    def test_latents(self, folder: Path) -> None:
        """They say of which network they are."""
        tested = self.build(folder)
        latents = tested.latents(tested.encode(picture(70, 50)))
        assert latents.values.shape == self.latents_shape
        assert latents.space == f"{self.codec.name}/{self.codec.levels[0].name}"
        assert latents.stride == tested.network.stride

    def test_half_precision(self, folder: Path) -> None:
        """Bitstreams of one type decode in another, to nearly the same picture."""
        tested = self.build(folder, dtype="bfloat16")
        bitstream = tested.encode(picture(40, 30))
        decoded = np.asarray(tested.decode(bitstream)).astype(float)
        expected = np.asarray(self.build(folder).decode(bitstream)).astype(float)
        assert 0 < np.abs(decoded - expected).mean() < 16

    def test_the_official_way_of_counting(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """It is printed beside the rate."""
        bitstream = self.build(folder, official_rate=True).encode(picture(64, 64))
        printed = capfd.readouterr().err
        assert f"{8 * len(bitstream) / 4096:.5f} bpp in {len(bitstream)} bytes" in printed
        assert "as the official script counts (the file, over" in printed

    # ---------------------------------------------------------------- files

    def test_a_parameter_is_missing(self, folder: Path, tmp_path: Path) -> None:
        """Nothing is loaded, and the name is said."""
        state, config = self.write_files(tmp_path)
        value = state.pop(self.lacking)
        level = self.codec.levels[0]
        self.write_level(tmp_path, level, state, config)
        with pytest.raises(ConfigError, match=r"nothing was loaded: 1 absent"):
            self.build(tmp_path).encode(picture(9, 7))
        self.write_level(tmp_path, level, {f"x.{self.lacking}": value}, config)
        with pytest.raises(ConfigError, match=r"nothing was loaded: 1 unknown \(x\."):
            self.build(tmp_path).encode(picture(9, 7))

    def test_a_checkpoint_of_another_level(self, folder: Path, tmp_path: Path) -> None:
        """It is named."""
        first, second = self.codec.levels[:2]
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        path = tmp_path / "checkpoints" / f"{first.name}.safetensors"
        (tmp_path / "checkpoints" / f"{second.name}.safetensors").replace(path)
        with pytest.raises(ConfigError, match=f"is of level {second.name}, nothing was loaded"):
            self.build(tmp_path).encode(picture(9, 7))

    def test_what_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every file is named, with its source and where to put it."""
        monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path))
        lacking = self.spec.requirements(self.spec.options())
        text = "\n".join(f"{each.what}: {each.remedy}" for each in lacking)
        base = self.codec.base
        for expected in (base.name, base.source, base.size, base.files[-1], str(tmp_path), "GB"):
            assert expected in text
        tested = self.codec(self.codec.levels[0], self.spec.options())
        for level in self.codec.levels:
            (name,) = tested.published(level)
            assert name in text
        with pytest.raises(RequirementError, match="no checkpoint of level"):
            tested.encode(picture(9, 7))

    def test_base_weights_of_another_prediction_type(self, folder: Path, tmp_path: Path) -> None:
        """They are refused by it."""
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        set_prediction(tmp_path / "base", "v_prediction")
        message = "prediction type of these base weights is v_prediction"
        with pytest.raises(ConfigError, match=message):
            self.build(tmp_path).encode(picture(9, 7))
        options = self.build(tmp_path).options
        assert any(message in each.remedy for each in self.spec.requirements(options))

    def test_the_text_encoder_is_needed_once(self, folder: Path, tmp_path: Path) -> None:
        """Then the prompt's embedding lies beside the weights."""
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        for path in (tmp_path / "base").glob("lossylens-prompt-*"):
            path.unlink()
        expected = self.build(tmp_path).context
        (kept,) = (tmp_path / "base").glob("lossylens-prompt-*.safetensors")
        assert torch.equal(self.build(tmp_path).context, expected)
        shutil.rmtree(tmp_path / "base" / "text_encoder")
        assert torch.equal(self.build(tmp_path).context, expected)
        kept.unlink()
        with pytest.raises(ConfigError, match="text_encoder is missing"):
            _ = self.build(tmp_path).context
        encoder = text_encoder()
        with torch.no_grad():
            encoder.final_layer_norm.bias.add_(1)
        write_part(tmp_path / "base" / "text_encoder", encoder, TEXT)
        assert torch.allclose(self.build(tmp_path).context, expected + 1, atol=1e-5)

    def test_old_names_in_the_vae(self, folder: Path, tmp_path: Path) -> None:
        """What diffusers once called its attention's layers is understood."""
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        path = tmp_path / "base" / "vae" / "diffusion_pytorch_model.safetensors"
        state = load_file(path)
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, spelt in old.items():
            state = {name.replace(f".{new}.", f".{spelt}."): v for name, v in state.items()}
        assert any(".query." in name for name in state)
        save_file(state, path)
        image = picture(30, 40)
        assert self.build(tmp_path).encode(image) == self.build(folder).encode(image)

    def test_provenance(self, folder: Path) -> None:
        """It names all that decides bitstreams and pictures."""
        found = self.build(folder).provenance()
        names = {"checkpoint", "torch", "compressai", "diffusers", "numpy", "base unet", "base vae"}
        assert names <= found.keys()
        assert found["checkpoint"] != self.build(folder, level=1).provenance()["checkpoint"]

    def test_levels(self) -> None:
        """The published levels, other names of theirs, and names that are none."""
        assert [level.name for level in self.spec.levels] == list(self.level_names)
        assert tuple(self.spec.levels) == tuple(self.codec.levels)
        parse = self.spec.parse_level
        assert parse is not None
        for level in self.spec.levels:
            assert parse(level.name) == level
        for other, name in self.other_names.items():
            assert self.spec.level(other).name == name
        for name in ("", "q", "1_2_", "1_2_0", "step3_1", "step2_3", "ft", "ft0", "ft٣"):
            with pytest.raises(ConfigError):
                self.spec.level(name)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"latent_tile": 12},
            {"latent_overlap": 96},
            {"encoder_tile": 33},
            {"decoder_tile": 4},
            {"dtype": "int8"},
        ],
    )
    def test_options_that_do_not_fit(self, wrong: Mapping[str, Any]) -> None:
        """They are refused when they are made."""
        with pytest.raises(ValueError, match=next(iter(wrong))):
            self.spec.options(**wrong)

    def tiled(self, folder: Path, **options: Any) -> None:
        """Check that tiles change the picture, a little, and may be of any size."""
        whole = self.build(folder)
        small = {"latent_tile": 8, "latent_overlap": 4, "encoder_tile": 32, "decoder_tile": 8}
        tested = self.build(folder, **small, **options)
        image = picture(40, 250)
        bitstream = tested.encode(image)
        decoded = tested.decode(bitstream)
        assert decoded.size == image.size
        assert tested.decode(bitstream).tobytes() == decoded.tobytes()
        assert whole.decode(bitstream).tobytes() != decoded.tobytes()
        assert whole.encode(image) != bitstream
