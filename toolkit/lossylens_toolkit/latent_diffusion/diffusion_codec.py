"""The codec contract for codecs on latent diffusion."""

from __future__ import annotations

import contextlib
import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lossylens.codec import Level
from lossylens.errors import ConfigError, RequirementError, TransientError
from PIL import Image
from torch import Tensor

from lossylens_toolkit.latent_diffusion.base_weights import BaseWeights, Latest, prompt_tokens
from lossylens_toolkit.latent_diffusion.diffusion_network import GuidedNetwork
from lossylens_toolkit.latent_diffusion.diffusion_options import (
    Base,
    LatentDiffusionOptions,
    find_base,
    find_level,
)
from lossylens_toolkit.latent_diffusion.diffusion_weights import Weights, read_weights
from lossylens_toolkit.latent_diffusion.sampling import Draw, picture_noise
from lossylens_toolkit.latent_diffusion.tiles import UNetTiles, VaeTiles
from lossylens_toolkit.latent_diffusion.vae import STRIDE, Vae
from lossylens_toolkit.neural_codec.container import Content, noise_seed
from lossylens_toolkit.neural_codec.generative_codec import GenerativeCodec
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork, reproducible
from lossylens_toolkit.neural_codec.neural_options import NANO, checkpoint_folder
from lossylens_toolkit.out_of_memory import is_out_of_memory

T = TypeVar("T")

#: Bytes before the strings of an official file: sizes of z, number and sizes of strings.
OFFICIAL_HEADER = 20

#: Options by which a picture takes less memory; not every codec has the first.
_SIZES = ("untiled_pixels", "latent_tile", "encoder_tile", "decoder_tile")

#: Borders of the VAE's tiles, in pixels and in latents.
_ENCODER_BORDER = 32
_DECODER_BORDER = 11


class LatentDiffusionCodec(GenerativeCodec):
    """A codec whose decoder is a diffusion model on the VAE's latents.

    Pictures are coded one at a time, so that none depends on those beside it.  Networks
    are loaded when they are first used: the encoder needs no UNet.

    Attributes:
        base: the base weights it is made for.
        words: tokens of the prompt.
    """

    base: ClassVar[Base]
    words: ClassVar[Sequence[int]] = ()

    options: LatentDiffusionOptions

    @abstractmethod
    def published(self, level: Level) -> Sequence[str]:
        """Return the published names of a level's checkpoint, relative to the folder."""

    @abstractmethod
    def inputs(self, x: Tensor) -> Sequence[Tensor]:
        """Return what the network takes of a padded picture in 0..1."""

    @abstractmethod
    def latent(self, coded: Mapping[str, Tensor], draw: Draw) -> Tensor:
        """Return the scaled latent that the diffusion model makes of what was decoded.

        Args:
            coded: what the network reconstructs.
            draw: the picture's noise.
        """

    @abstractmethod
    def tiled(self, height: int, width: int) -> bool:
        """Return whether a picture of this padded size may be treated in tiles."""

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: there is one size."""
        return {}

    # ---------------------------------------------------------------- networks

    @functools.cached_property
    def checkpoint(self) -> Path:
        """Path of this level's checkpoint."""
        if self.options.variant == NANO:
            return super().checkpoint
        try:
            folder = checkpoint_folder(self.name, self.package, self.options)
            return find_level(folder, self.level, self.published)
        except RequirementError as error:
            raise RequirementError(f"{self.name}: {error}") from error

    @functools.cached_property
    def weights(self) -> Weights:
        """What the checkpoint holds.

        Raises:
            ConfigError: it cannot be read, or is of another codec or level.
        """
        with self._named():
            weights = read_weights(self.checkpoint)
        with self._named(self.checkpoint):
            for what, expected in (("codec", self.name), ("level", self.level.name)):
                found = weights.about.get(what, expected)
                if found != expected:
                    raise ConfigError(f"the checkpoint is of {what} {found}, nothing was loaded")
        return weights

    @functools.cached_property
    def network(self) -> HyperpriorNetwork:
        """The network that codes the latent, with its weights, on its device."""
        state = self.weights.state
        with self._named(self.checkpoint):
            network = self.build(self.config("codec"))
            self.load_official(network, state)
        network.requires_grad_(False).eval()
        if self.dtype == torch.float64:
            network.double()
        return network.to(self._device)

    def config(self, part: str) -> Mapping[str, Any]:
        """Return the arguments for a part as one of lossylens's checkpoints has them."""
        found = self.weights.about.get("config", {})
        return found.get(part, {}) if isinstance(found, Mapping) else {}

    @functools.cached_property
    def base_weights(self) -> BaseWeights:
        """The base weights on disk.

        Raises:
            RequirementError: there are none.
            ConfigError: they predict something else than noise.
        """
        path = find_base(self.name, self.base, self.options)
        return BaseWeights(path, self.base)

    @functools.cached_property
    def context(self) -> Tensor:
        """The embedding of the prompt."""
        return self.base_weights.prompt(prompt_tokens(self.words)).to(self._device)

    @property
    def dtype(self) -> torch.dtype:
        """Of VAE, UNet and the networks beside them."""
        found: torch.dtype = getattr(torch, self.options.dtype)
        return found

    @property
    @abstractmethod
    def unet(self) -> UNet2DConditionModel:
        """The UNet, on the codec's device."""

    @property
    @abstractmethod
    def vae(self) -> AutoencoderKL:
        """The VAE, on the codec's device."""

    def latest(self, kept: Latest[T], make: Callable[[], T], *key: Any) -> T:
        """Return the model that *make* returns, which is kept until another one is needed.

        Args:
            kept: what keeps it.
            make: returns the model.
            key: what the model depends on beside base weights, type and device.
        """

        def placed() -> T:
            with self._named():
                model: Any = make()
            return model.to(self._device, memory_format=torch.channels_last)

        return kept.get((self.base_weights.path, self.dtype, str(self._device), *key), placed)

    # ---------------------------------------------------------------- contract

    def compress(self, network: HyperpriorNetwork, x: Tensor) -> dict[str, Any]:
        """See the base."""
        with self._in_memory(x.shape[-1], x.shape[-2]):
            with self._plain():
                inputs = self.inputs(x.float())
            return network.compress(*inputs)

    def provenance(self) -> Mapping[str, str]:
        """Return hashes of the files and the versions of what computes.

        Raises:
            RequirementError: a file is missing.
            ConfigError: the base weights predict something else than noise.
        """
        versions = {name: metadata.version(name) for name in ("diffusers", "numpy")}
        return {**super().provenance(), **versions, **self.base_weights.hashes()}

    def official_bits(self, image: Image.Image, bitstream: bytes) -> float:
        """See the base: a header of 20 bytes and the strings."""
        content = self._unpack(bitstream)
        return 8.0 * (OFFICIAL_HEADER + len(content.y) + self.official_z_bytes(content))

    def official_z_bytes(self, content: Content) -> int:
        """Return the length of the official string of z."""
        return len(content.z)

    def picture(self, latent: Tensor, height: int, width: int) -> Tensor:
        """Return the padded picture of a scaled latent, in 0..1."""
        decoded = self.vae_for(height, width).decode(latent)
        return ((decoded + 1) / 2).clamp_(0, 1)

    def vae_for(self, height: int, width: int) -> Vae:
        """Return the VAE for a picture of this padded size."""
        if not self.tiled(height, width):
            return Vae(self.vae)
        options = self.options
        return Vae(
            self.vae,
            VaeTiles(options.encoder_tile, _ENCODER_BORDER),
            VaeTiles(options.decoder_tile, _DECODER_BORDER),
        )

    def unet_tiles(self, height: int, width: int) -> UNetTiles:
        """Return the tiles of the UNet for latents of this size."""
        options = self.options
        whole = options.latent_tile**2
        if not self.tiled(height * STRIDE, width * STRIDE):
            whole = height * width
        return UNetTiles(options.latent_tile, options.latent_overlap, whole)

    @property
    def batch_images(self) -> int:  # type: ignore[override]
        """One: the noise of a picture has its own seed and its memory is reckoned alone."""
        return 1

    def _decode(self, contents: Sequence[Content]) -> list[Image.Image]:
        (content,) = contents
        width, height = self.padding.padded(content.width, content.height)
        network = self.network
        assert isinstance(network, GuidedNetwork)
        with self._in_memory(width, height):
            y_hat = self._latents(contents)
            shape = (height // network.hyper_stride, width // network.hyper_stride)
            with self._arithmetic():
                coded = network.reconstruct(y_hat, network.decode_hyper(content.z, shape))
            with self._plain():
                latent = self.latent(coded, picture_noise(noise_seed(content)))
                picture = self.picture(latent, height, width)[0]
        return [_truncated(self.padding.crop(picture, content.width, content.height))]

    # ---------------------------------------------------------------- helpers

    @contextlib.contextmanager
    def _plain(self) -> Iterator[None]:
        """Compute without gradients, each network in the type of its weights, reproducibly."""
        with torch.inference_mode(), reproducible(self._device):
            yield

    @contextlib.contextmanager
    def _named(self, path: Path | None = None) -> Iterator[None]:
        """Say in errors of loading of which codec, level and file they are."""
        try:
            yield
        except (ConfigError, TypeError, ValueError) as error:
            file = f"{path}: " if path else ""
            raise ConfigError(f"{self.name} {self.level.name}: {file}{error}") from error

    @contextlib.contextmanager
    def _in_memory(self, width: int, height: int) -> Iterator[None]:
        """Say what to do where memory does not suffice."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            names = [name for name in _SIZES if hasattr(self.options, name)]
            raise TransientError(
                f"{self.name}: {width}x{height} pixels do not fit into the memory of"
                f" {self._device}; lower the options {', '.join(names)} or use dtype=bfloat16"
            ) from error


def _truncated(picture: Tensor) -> Image.Image:
    """Return a picture in 0..1 with samples rounded down, as the official scripts do."""
    samples = (picture * 255).to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(samples.cpu().contiguous().numpy())
