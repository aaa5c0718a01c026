"""Base weights: UNet, VAE and what the text encoder makes of the one prompt."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lossylens.errors import ConfigError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from lossylens_toolkit.latent_diffusion.diffusion_options import (
    Base,
    prediction_type,
    wrong_prediction,
)
from lossylens_toolkit.latent_diffusion.diffusion_weights import read_weights
from lossylens_toolkit.latent_diffusion.ldm import (
    SD21_UNET,
    SD_VAE,
    UNET,
    VAE,
    Named,
    build_unet,
    build_vae,
    load_module,
    renamed_unet,
    renamed_vae,
    unet_config,
    vae_config,
)
from lossylens_toolkit.latent_diffusion.sampling import TIMES
from lossylens_toolkit.neural_codec.checkpoints import file_hash

#: Tokens of a prompt, in CLIP's vocabulary: start, words, end, and 0 up to this length.
TOKENS = 77
_START, _END = 49406, 49407

_TEXT = "cond_stage_model.model."

#: The text encoder of Stable Diffusion 2: all but the last block of OpenCLIP ViT-H.
TEXT_CONFIG: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "hidden_act": "gelu",
    "projection_dim": 512,
}

#: Files with the weights of a part of a folder, in order of preference.
_FILES = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)

#: What a model that predicts v answers to a constant of 0.5, less than it by so much.
_CONSTANT = 0.5
_DARKER = -1.0

#: What diffusers once called the layers of a VAE's attention.
_OLD = re.compile(r"(?<=\.attentions\.0\.)(query|key|value|proj_attn)(?=\.)")
_MODERN = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


def _modern(found: re.Match[str]) -> str:
    return _MODERN[found[0]]


def prompt_tokens(words: Sequence[int] = ()) -> list[int]:
    """Return the tokens of a prompt of these words, by default of the empty one."""
    tokens = [_START, *words, _END]
    return tokens + [0] * (TOKENS - len(tokens))


@dataclass(frozen=True)
class BaseWeights:
    """Base weights on disk.

    Attributes:
        path: a folder in diffusers' layout, or the official single file.
        base: what they should be.
    """

    path: Path
    base: Base

    def unet(
        self, dtype: torch.dtype, overrides: Mapping[str, Tensor] | None = None
    ) -> UNet2DConditionModel:
        """Return the UNet.

        Args:
            dtype: of its weights.
            overrides: by official name, what takes the place of the file's.

        Raises:
            ConfigError: it is of another architecture, or does not predict noise.
        """
        if self.path.is_dir():
            found = self._read("unet")
            unet = self._built(UNet2DConditionModel, found.config)
        else:
            unet = build_unet(unet_config(SD21_UNET))
            given = read_weights(self.path, (UNET,)).state
            found = _Part(unet.config, renamed_unet(given, unet.config["layers_per_block"]))
        named = dict(found.named)
        if overrides:
            named |= renamed_unet(overrides, unet.config["layers_per_block"])
        load_module(unet, named, f"{self.path}: the UNet", dtype=dtype)
        unet.requires_grad_(False).eval()
        self._check_prediction(unet)
        return unet

    def vae(
        self, dtype: torch.dtype, overrides: Mapping[str, Tensor] | None = None
    ) -> AutoencoderKL:
        """Return the VAE; see :meth:`unet`."""
        if self.path.is_dir():
            found = self._read("vae")
            vae = self._built(AutoencoderKL, found.config)
        else:
            vae = build_vae(vae_config(SD_VAE))
            given = read_weights(self.path, (VAE,)).state
            blocks = len(vae.config["block_out_channels"])
            found = _Part(vae.config, renamed_vae(given, blocks))
        named = dict(found.named)
        if overrides:
            named |= renamed_vae(overrides, len(vae.config["block_out_channels"]))
        load_module(vae, named, f"{self.path}: the VAE", dtype=dtype)
        return vae.requires_grad_(False).eval()

    def prompt(self, tokens: Sequence[int]) -> Tensor:
        """Return the embedding of a prompt, ``(1, tokens, C)`` in float32.

        It is kept in a file beside the weights, so that the text encoder is loaded once
        and may be deleted.

        Raises:
            ConfigError: there is no text encoder, or it is of another architecture.
        """
        digest = hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()[:8]
        name = f"lossylens-prompt-{digest}.safetensors"
        folder = self.path if self.path.is_dir() else self.path.parent
        cached = folder / (name if self.path.is_dir() else f"{self.path.stem}.{name}")
        if (embedding := self._kept(cached)) is not None:
            return embedding
        embedding = self._embedded(tokens)
        self._keep(cached, embedding)
        return embedding

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the files that decide bitstreams and pictures, by name."""
        if self.path.is_file():
            return {"base": _hash(self.path)}
        return {
            f"base {part}": " ".join(map(_hash, self._files(part)))
            for part in ("unet", "vae", "text_encoder")
            if (self.path / part).is_dir()
        }

    # ---------------------------------------------------------------- parts

    def _files(self, part: str) -> list[Path]:
        """Return configuration and weights of a part of a folder."""
        folder = self.path / part
        weights = [folder / name for name in _FILES if (folder / name).is_file()]
        config = folder / "config.json"
        if not weights or not config.is_file():
            raise ConfigError(f"{folder}: config.json or {_FILES[0]} is missing")
        return [config, weights[0]]

    def _read(self, part: str) -> _Part:
        config_file, weights_file = self._files(part)
        try:
            config = json.loads(config_file.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{config_file}: not a configuration: {error}") from error
        if not isinstance(config, dict):
            raise ConfigError(f"{config_file}: not a configuration")
        state = read_weights(weights_file).state
        named = {_OLD.sub(_modern, name): (name, value) for name, value in state.items()}
        return _Part(config, named)

    def _built(self, kind: type[T], config: Mapping[str, Any]) -> T:
        """Return a model of diffusers without weights in memory."""
        try:
            with torch.device("meta"):
                return kind.from_config(dict(config))  # type: ignore[attr-defined]
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"{self.path}: config.json of {kind.__name__}: {error}") from error

    def _check_prediction(self, unet: UNet2DConditionModel) -> None:
        """Raise :class:`ConfigError` unless the UNet predicts noise.

        A folder says what its model predicts.  Single files of the models that do and of
        those that predict v are alike.  At the time of most noise, v is the negative of
        the picture that is believed to be behind it: such a model makes of a bright
        constant a dark one, and one that predicts noise leaves it as it is.
        """
        predicted = prediction_type(self.path) if self.path.is_dir() else None
        if predicted is None:
            inputs, config = unet.conv_in.in_channels, unet.config
            x = torch.full((1, inputs, 8, 8), _CONSTANT, dtype=unet.dtype)
            width = config["cross_attention_dim"]
            context = torch.full((1, 2, width), _CONSTANT, dtype=unet.dtype)
            with torch.inference_mode():
                answer = unet(x, TIMES - 1, context, return_dict=False)[0]
            predicted = "v_prediction" if (answer - x).mean() < _DARKER else "epsilon"
        if predicted != "epsilon":
            raise ConfigError(wrong_prediction(self.path, predicted, self.base))

    # ---------------------------------------------------------------- prompt

    def _embedded(self, tokens: Sequence[int]) -> Tensor:
        if self.path.is_dir():
            if not (self.path / "text_encoder").is_dir():
                raise ConfigError(f"{self.path}: text_encoder is missing, for the prompt")
            found = self._read("text_encoder")
            config, named = found.config, found.named
        else:
            config = TEXT_CONFIG
            state = dict(read_weights(self.path, (_TEXT,)).state)
            named = {}
        encoder = self._text_encoder(config)
        if self.path.is_file():
            converted = convert_open_clip_checkpoint(encoder, state, prefix=_TEXT)
            named = {name: (name, value) for name, value in converted.items()}
        plain = {
            name.removeprefix("text_model."): value
            for name, value in named.items()
            if not name.endswith("position_ids") and "text_projection" not in name
        }
        load_module(encoder, plain, f"{self.path}: the text encoder", dtype=torch.float32)
        with torch.inference_mode():
            ids = torch.tensor([list(tokens)])[:, : encoder.config.max_position_embeddings]
            embedding: Tensor = encoder(ids).last_hidden_state
        return embedding.clone()

    def _text_encoder(self, config: Mapping[str, Any]) -> CLIPTextModel:
        known = CLIPTextConfig().to_dict()
        try:
            given = {key: value for key, value in config.items() if key in known}
            with _quick_initialisation():
                return CLIPTextModel(CLIPTextConfig(**given)).eval()
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"{self.path}: text_encoder/config.json: {error}") from error

    @property
    def _source(self) -> str:
        """What tells the weights of the text encoder from others without reading them."""
        path = self._files("text_encoder")[1] if self.path.is_dir() else self.path
        found = path.stat()
        return f"{path.name} {found.st_size} {found.st_mtime_ns}"

    def _kept(self, cached: Path) -> Tensor | None:
        try:
            with safe_open(cached, framework="pt") as file:
                source = (file.metadata() or {}).get("source")
                embedding: Tensor = file.get_tensor("embedding")
        except (OSError, SafetensorError):
            return None
        if self.path.is_dir() and not (self.path / "text_encoder").is_dir():
            return embedding
        return embedding if source == self._source else None

    def _keep(self, cached: Path, embedding: Tensor) -> None:
        partial = cached.with_name(f"{cached.name}.{os.getpid()}")
        try:
            save_file({"embedding": embedding}, partial, metadata={"source": self._source})
            partial.replace(cached)
        except (OSError, SafetensorError) as error:
            _LOG.warning(
                "%s: the prompt's embedding cannot be kept there (%s); the text encoder will be"
                " loaded each time",
                cached,
                error,
            )
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Part:
    config: Mapping[str, Any]
    named: Named


@contextlib.contextmanager
def _quick_initialisation() -> Any:
    """Leave out the random numbers that are overwritten anyway."""
    before = nn.init.normal_
    nn.init.normal_ = lambda tensor, *args, **options: tensor
    try:
        yield
    finally:
        nn.init.normal_ = before


def _hash(path: Path) -> str:
    """Return a file's SHA-256, computed once in a process for all levels and codecs."""
    found = path.stat()
    return _hash_of(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache
def _hash_of(path: Path, size: int, modified: int) -> str:
    return file_hash(path)


class Latest(Generic[T]):
    """Keeps the one large thing that was asked for last, such as a UNet."""

    def __init__(self) -> None:
        self._key: Any = None
        self._value: T | None = None

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """Return what *make* returned for *key*, or ask it; what was kept goes first."""
        if self._value is None or key != self._key:
            self._key = self._value = None
            self._value = make()
            self._key = key
        return self._value


#: All codecs of a process share them: a process works on one at a time.
UNETS: Latest[UNet2DConditionModel] = Latest()
VAES: Latest[AutoencoderKL] = Latest()
