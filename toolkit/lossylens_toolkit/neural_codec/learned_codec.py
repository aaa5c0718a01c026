"""The codec contract for networks with a hyperprior."""

from __future__ import annotations

import contextlib
import functools
import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from lossylens.codec import Codec, Latents, Level
from lossylens.errors import BitstreamError, ConfigError, ImageError, RequirementError
from lossylens.images import plain_rgb
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from lossylens_toolkit.neural_codec.checkpoints import (
    Checkpoint,
    file_hash,
    parameters,
    read_checkpoint,
)
from lossylens_toolkit.neural_codec.container import Content, pack, unpack
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.neural_options import (
    NANO,
    NeuralCodecOptions,
    checkpoint_folder,
    find_checkpoint,
    nano_checkpoint,
    no_other_stems,
)
from lossylens_toolkit.neural_codec.padding import Padding

T = TypeVar("T")

#: Pictures whose latents are computed together where nothing is coded.
_TOGETHER = 8

#: Width and height.
Size = tuple[int, int]


class NeuralCodec(Codec):
    """A learned codec; the network is loaded when it is first used.

    Subclasses set the attributes and define the three methods.  A bitstream is that
    of :mod:`lossylens_toolkit.neural_codec.container`.

    Transforms are computed in ``options.dtype``.  In float64, the default, other threads,
    instructions or devices change a sample by about 1e-12 of a grey value, so that fewer
    than one in ten million pictures have a sample that is rounded otherwise.

    Attributes:
        name: of the codec.
        package: import name of its plugin, in which nano checkpoints lie.
        levels: the published ones, to name the level of a foreign bitstream.
        padding: of pictures.
        has_side: whether bitstreams may have side information; see :meth:`side_length`.
        stems: other names of checkpoint files; see
            :func:`~lossylens_toolkit.neural_codec.neural_options.find_checkpoint`.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    levels: ClassVar[Sequence[Level]]
    padding: ClassVar[Padding]
    has_side: ClassVar[bool] = False

    options: NeuralCodecOptions

    @abstractmethod
    def build(self, config: Mapping[str, Any]) -> HyperpriorNetwork:
        """Return an untrained network.

        Raises:
            ValueError: the arguments do not fit together.
            TypeError: an argument is unknown.
        """

    @abstractmethod
    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Return the arguments for the official network whose state dict this may be."""

    @abstractmethod
    def load_official(self, network: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Load a state dict in official names.

        Raises:
            ConfigError: names or shapes differ; nothing is loaded then.
        """

    def network_config(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return the arguments of :meth:`build` for the network of a checkpoint."""
        return checkpoint.about.get("config") or self.official_config(checkpoint.state)

    def official_state(self, network: HyperpriorNetwork) -> Mapping[str, Tensor]:
        """Return the parameters of *network* in official names; by default its own names."""
        return parameters(network)

    def stems(self, level: Level) -> Sequence[str]:
        """Return other stems of the checkpoint's name; none by default."""
        return no_other_stems(level)

    def side_information(self, image: Image.Image) -> bytes:
        """Return what the bitstream says beside the strings; by default nothing."""
        return b""

    def side_length(self, start: bytes) -> int:
        """Return the length of a bitstream's side information, given what begins with it.

        Raises:
            BitstreamError: it begins with none.
        """
        return 0

    def compress(self, network: HyperpriorNetwork, x: Tensor) -> dict[str, Any]:
        """Return the strings of padded pictures; by default the network takes them alone."""
        return network.compress(x)

    def compress_beside(
        self, network: HyperpriorNetwork, x: Tensor, sizes: Sequence[Size], sides: Sequence[bytes]
    ) -> dict[str, Any]:
        """Return the strings of padded pictures, given their sizes and side information."""
        return self.compress(network, x)

    def synthesize_beside(
        self, latents: Tensor, sizes: Sequence[Size], sides: Sequence[bytes]
    ) -> Tensor:
        """Return the padded pictures of latents, given their sizes and side information.

        Raises:
            BitstreamError: the side information is damaged.
        """
        return self.network.synthesize(latents)

    # ---------------------------------------------------------------- contract

    def encode(self, image: Image.Image) -> bytes:
        """Return the bitstream of *image*.

        Raises:
            ImageError: not RGB, or larger than ``max_pixels``.
            RequirementError: there is no checkpoint of this level.
            ConfigError: the checkpoint is of another architecture or level.
        """
        return self.encode_batch([image])[0]

    def decode(self, bitstream: bytes) -> Image.Image:
        """Return the image in *bitstream*.

        Raises:
            BitstreamError: damaged, of another codec, level or format version, coded
                with other weights, or where the probability model comes out different
                on this machine.
            RequirementError: there is no checkpoint of this level.
            ConfigError: the checkpoint is of another architecture or level.
        """
        return self.decode_batch([bitstream])[0]

    def encode_batch(self, images: Sequence[Image.Image]) -> list[bytes]:
        """Encode several images, those of one padded size together; see :meth:`encode`."""
        for image in images:
            self._check_size(image)
        sizes = [self.padding.padded(*image.size) for image in images]
        results: dict[int, bytes] = {}
        for batch in _batches(sizes, self.batch_images):
            strings = self._encode([images[i] for i in batch])
            results.update(zip(batch, strings, strict=True))
        return [results[i] for i in range(len(images))]

    def decode_batch(self, bitstreams: Sequence[bytes]) -> list[Image.Image]:
        """Decode several bitstreams, those of one padded size together; see :meth:`decode`."""
        contents = [self._unpack(bitstream) for bitstream in bitstreams]
        keys = [
            (self.padding.padded(content.width, content.height), content.float64)
            for content in contents
        ]
        results: dict[int, Image.Image] = {}
        for batch in _batches(keys, self.batch_images):
            images = self._decode([contents[i] for i in batch])
            results.update(zip(batch, images, strict=True))
        return [results[i] for i in range(len(bitstreams))]

    def latents(self, bitstream: bytes) -> Latents:
        """Return the quantised latents, those of the padding included.

        Raises:
            BitstreamError: as for :meth:`decode`.
        """
        content = self._unpack(bitstream)
        values = self._latents([content])[0].float().cpu().numpy()
        return self._as_latents(values, (content.width, content.height))

    def quantised(self, images: Sequence[Image.Image]) -> list[Latents]:
        """Return what :meth:`latents` finds in the bitstreams of *images*.

        Where nothing but the network decides, nothing is coded and pictures of one size are
        computed together: several times faster, and the same but for what floating point rounds.

        Raises:
            ImageError, RequirementError, ConfigError: as for :meth:`encode`.
        """
        if not self._is_plain:
            return [self.latents(each) for each in self.encode_batch(images)]
        for image in images:
            self._check_size(image)
        network = self._network_in(self.options.entropy_dtype == "float64")
        sizes = [self.padding.padded(*image.size) for image in images]
        results: dict[int, Latents] = {}
        for batch in _batches(sizes, max(self.batch_images, _TOGETHER)):
            padded = torch.cat([self.padding.pad(_to_tensor(images[i])) for i in batch])
            with self._arithmetic():
                x = padded.to(self._device, memory_format=torch.channels_last)
                values = network.quantise(x).float().cpu().numpy()
            results.update(
                (i, self._as_latents(each, images[i].size))
                for i, each in zip(batch, values, strict=True)
            )
        return [results[i] for i in range(len(images))]

    @property
    def _is_plain(self) -> bool:
        """Whether the strings are the network's own, of the picture alone."""
        return (
            type(self).compress is NeuralCodec.compress
            and type(self).compress_beside is NeuralCodec.compress_beside
            and type(self.network).compress is HyperpriorNetwork.compress
        )

    def _as_latents(self, values: NDArray[np.float32], size: Size) -> Latents:
        return Latents(values, self.space, self.network.stride, self.padding.offset(*size))

    @property
    def space(self) -> str:  # type: ignore[override]
        """Name of the latent space: every level has a network, and so a space, of its own."""
        return self._identity(self.level)

    def provenance(self) -> Mapping[str, str]:
        """Return the checkpoint's hash and the versions of torch and CompressAI.

        Raises:
            RequirementError: there is no checkpoint of this level.
        """
        versions = {name: metadata.version(name) for name in ("torch", "compressai")}
        return {"checkpoint": file_hash(self.checkpoint), **versions}

    # ---------------------------------------------------------------- network

    @functools.cached_property
    def checkpoint(self) -> Path:
        """Path of this level's checkpoint."""
        try:
            folder = checkpoint_folder(self.name, self.package, self.options)
            if self.options.variant == NANO:
                return self._nano_checkpoint(folder)
            return find_checkpoint(folder, self.level, self.stems)
        except RequirementError as error:
            raise RequirementError(f"{self.name}: {error}") from error

    def _nano_checkpoint(self, folder: Path) -> Path:
        path = nano_checkpoint(folder, self.level)
        if not path.exists():
            there = ", ".join(sorted(each.stem for each in folder.glob("*"))) or "none"
            raise RequirementError(
                f"there is no nano checkpoint of level {self.level.name}; there are {there}"
            )
        return path

    @functools.cached_property
    def network(self) -> HyperpriorNetwork:
        """The network with its weights, on its device."""
        path = self.checkpoint
        checkpoint = read_checkpoint(path)
        try:
            self._check_about(checkpoint)
            config = self.network_config(checkpoint)
            network = self.build(config)
            self.load_official(network, checkpoint.state)
        except (ConfigError, TypeError, ValueError) as error:
            raise ConfigError(f"{self.name} {self.level.name}: {path}: {error}") from error
        network.requires_grad_(False).eval()
        if self._dtype == torch.float64:
            network.double()
        return network.to(self._device, memory_format=torch.channels_last)

    @property
    def _dtype(self) -> torch.dtype:
        """Of the transforms."""
        found: torch.dtype = getattr(torch, self.options.dtype)
        return found

    def _check_about(self, checkpoint: Checkpoint) -> None:
        for what, expected in (("codec", self.name), ("level", self.level.name)):
            found = checkpoint.about.get(what, expected)
            if found != expected:
                raise ConfigError(f"the checkpoint is of {what} {found}, nothing was loaded")

    @functools.cached_property
    def _device(self) -> torch.device:
        wanted = self.options.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if wanted.startswith("cuda"):
            count = torch.cuda.device_count()
            if int(wanted.partition(":")[2] or 0) >= count:
                raise ConfigError(f"{self.name}: there is no device {wanted}; GPUs here: {count}")
        return torch.device(wanted)

    @property
    def wants_device(self) -> bool:  # type: ignore[override]
        """Whether it works on a GPU."""
        return self._device.type == "cuda"

    @property
    def batch_images(self) -> int:  # type: ignore[override]
        """Pictures of one size that are coded together: on a GPU as many as the option says."""
        return self.options.batch_images if self._device.type == "cuda" else 1

    @contextlib.contextmanager
    def _arithmetic(self) -> Iterator[None]:
        mixed = self._dtype.itemsize < torch.float32.itemsize
        dtype = self._dtype if mixed else None
        with torch.inference_mode(), torch.autocast(self._device.type, dtype, enabled=mixed):
            yield

    # ---------------------------------------------------------------- batches

    def _encode(self, images: Sequence[Image.Image]) -> list[bytes]:
        padded = torch.cat([self.padding.pad(_to_tensor(image)) for image in images])
        x = padded.to(self._device, memory_format=torch.channels_last)
        float64 = self.options.entropy_dtype == "float64"
        network = self._network_in(float64)
        sides = [self.side_information(image) for image in images]
        with self._arithmetic():
            coded = self.compress_beside(network, x, [image.size for image in images], sides)
        return [
            pack(
                Content(
                    level=self._identity(self.level),
                    width=image.width,
                    height=image.height,
                    tables=self._tables_checksum,
                    symbols=symbols,
                    float64=float64,
                    z=z,
                    y=y,
                    side=side,
                )
            )
            for image, side, y, z, symbols in zip(
                images, sides, *coded["strings"], coded["checksums"], strict=True
            )
        ]

    def _decode(self, contents: Sequence[Content]) -> list[Image.Image]:
        latents = self._latents(contents)
        sizes = [(content.width, content.height) for content in contents]
        sides = [content.side for content in contents]
        with self._arithmetic():
            pictures = self.synthesize_beside(latents, sizes, sides).double()
        return [
            _to_image(self.padding.crop(picture, content.width, content.height))
            for picture, content in zip(pictures, contents, strict=True)
        ]

    def _latents(self, contents: Sequence[Content]) -> Tensor:
        """Return the latents of bitstreams of one padded size and arithmetic."""
        width, height = self.padding.padded(contents[0].width, contents[0].height)
        network = self._network_in(contents[0].float64)
        shape = (-(-height // network.hyper_stride), -(-width // network.hyper_stride))
        strings = [content.y for content in contents], [content.z for content in contents]
        # The container's checksum was right: what is wrong now was not damaged on its way.
        different = BitstreamError(
            f"{self.name}: the probability model came out different from the encoder's, as it"
            " may on another machine; encode with entropy_dtype=float64"
        )
        try:
            with self._arithmetic():
                latents, checksums = network.decode_latents(strings, shape)
        except BitstreamError as error:
            raise different from error
        if any(
            content.symbols != checksum & 0xFFFF
            for content, checksum in zip(contents, checksums, strict=True)
        ):
            raise different
        return latents

    def _network_in(self, float64: bool) -> HyperpriorNetwork:
        self.network.set_entropy_dtype(torch.float64 if float64 else torch.float32)
        return self.network

    @property
    def _tables_checksum(self) -> int:
        return (self.network.tables.checksum ^ self.network.scale_tables.checksum) & 0xFFFF

    # ---------------------------------------------------------------- checks

    def _identity(self, level: Level, variant: str | None = None) -> str:
        """Return what a bitstream says it is of; no variant is taken for another."""
        return f"{self.options.qualified(self.name, variant)}/{level.name}"

    def _unpack(self, bitstream: bytes) -> Content:
        variants = self.options.variants
        others = [self._identity(*each) for each in itertools.product(self.levels, variants)]
        try:
            content = unpack(
                bitstream,
                self._identity(self.level),
                others,
                self.options.max_pixels,
                self.side_length if self.has_side else None,
            )
        except BitstreamError as error:
            raise BitstreamError(f"{self.name}: {error}") from error
        if content.tables != self._tables_checksum:
            raise BitstreamError(
                f"{self.name}: coded with other weights than those of {self.checkpoint.name},"
                " or with other probability tables"
            )
        return content

    def _check_size(self, image: Image.Image) -> None:
        if not 0 < image.width * image.height <= self.options.max_pixels:
            raise ImageError(
                f"{self.name}: {image.width}x{image.height} has no pixels or too many; the limit"
                f" is {self.options.max_pixels} (option max_pixels)"
            )


def _batches(keys: Sequence[Any], size: int) -> Iterator[list[int]]:
    """Yield the positions of equal keys, at most *size* of them together."""
    groups: dict[Any, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    for group in groups.values():
        yield from (group[i : i + size] for i in range(0, len(group), size))


def _to_tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(plain_rgb(image)))
    return pixels.permute(2, 0, 1)[None].double() / 255


def _to_image(picture: Tensor) -> Image.Image:
    pixels = (picture * 255).round_().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(pixels.cpu().contiguous().numpy())
