"""The codec contract.

A codec turns an RGB image into a bitstream and back, at one level (rate
point).  Plugins register a :class:`CodecSpec` and implement :class:`Codec`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from lossylens.errors import ConfigError
from lossylens.names import canonical, suggestion
from lossylens.spec import PluginSpec

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Level:
    """A named rate point of a codec.

    Attributes:
        name: as in configurations and reports, such as ``"q5"`` or ``"qp40"``.
        parameters: what the codec is set to there, such as ``{"quality": 5}``;
            values are numbers or strings, so that they can be stored.
    """

    name: str
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CodecSpec(PluginSpec):
    """Declaration of a codec.

    The factory is called as ``factory(level: Level, options)``.

    Attributes:
        levels: the published rate points, ascending in rate; used where a
            configuration names none.
        parse_level: turns the name of a level outside ``levels`` into a
            :class:`Level`, or returns None when the name means nothing; absent
            for codecs with a fixed set of levels.
        level_help: which names ``parse_level`` accepts, for error messages.
        level_sets: names of levels under one name, such as those published for one
            task; a configuration may give it in place of a list.
        lossless: whether decoding gives back every pixel exactly.
        nominal_bpp: rate to report in place of the measured bytes, for a codec
            whose rate is a matter of definition; None for every real codec.
        compose: of a codec that is made of others: called with its checked options, the
            :class:`~lossylens.registry.plugins.Registry`, and the place of the options in
            the configuration; returns the declaration with the levels that these options
            leave, and the options as the factory gets them, which can be pickled.  Raises
            :class:`~lossylens.errors.ConfigError`.  ``levels`` may be empty until then.
    """

    kind: ClassVar[str] = "codec"

    levels: tuple[Level, ...]
    parse_level: Callable[[str], Level | None] | None = None
    level_help: str = ""
    level_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lossless: bool = False
    nominal_bpp: float | None = None
    compose: Callable[[Any, Any, str], tuple[Any, Any]] | None = None

    def rate(self, bitstream_bytes: int, width: int, height: int) -> float:
        """Return the rate of an image in bits per pixel of the original."""
        if self.nominal_bpp is not None:
            return self.nominal_bpp
        return bits_per_pixel(bitstream_bytes, width, height)

    def level(self, name: str) -> Level:
        """Return the level called *name*.

        Raises:
            ConfigError: no such level.
        """
        for level in self.levels:
            if canonical(level.name) == canonical(name):
                return level
        parsed = self.parse_level(name) if self.parse_level else None
        if parsed is None:
            accepted = f" Accepted: {self.level_help}." if self.level_help else ""
            hint = suggestion(name, (level.name for level in self.levels))
            raise ConfigError(f"codec {self.name!r} has no level {name!r}. {hint}{accepted}")
        return parsed

    def level_set(self, name: str) -> tuple[str, ...] | None:
        """Return the names of the levels in the set called *name*, or None."""
        sets = {canonical(each): levels for each, levels in self.level_sets.items()}
        return sets.get(canonical(name))


@dataclass(frozen=True, slots=True)
class Square:
    """The square that every picture becomes before a codec gets it.

    A model that sees squares of one size can then be given the codec's latents, position by
    position.  Rates still count the pixels of the original.

    Attributes:
        side: in pixels.
        fit: ``pad``: all of the picture, in the middle of a border; ``crop``: the largest
            square in its middle; ``squash``: all of it, distorted.
        border: RGB samples of what pads; by default the mean of CLIP's training pictures,
            with which LLaVA pads.

    Raises:
        ValueError: a value out of range.
    """

    side: int
    fit: str = "pad"
    border: tuple[int, int, int] = (122, 116, 104)

    def __post_init__(self) -> None:
        """Check the values."""
        if not 1 <= self.side <= _MOST_SIDE:
            raise ValueError(f"side must be 1 to {_MOST_SIDE} pixels, got {self.side}")
        if self.fit not in FITS:
            raise ValueError(f"fit {self.fit!r} is not one of {', '.join(FITS)}")
        if len(self.border) != 3 or not all(0 <= each <= 255 for each in self.border):
            raise ValueError(f"border takes three samples, 0 to 255, got {list(self.border)}")

    def __str__(self) -> str:
        """Return what becomes of a picture, as it follows "pictures are"."""
        does = {"pad": "padded", "crop": "cropped", "squash": "distorted"}[self.fit]
        return f"{does} to squares of {self.side}x{self.side}"


#: How a picture becomes a square; see :class:`Square`.
FITS = ("pad", "crop", "squash")

_MOST_SIDE = 1 << 14


@dataclass(frozen=True, slots=True)
class Latents:
    """Quantised latents read from a bitstream, for adaptors.

    Attributes:
        values: array of shape (channels, height, width), float32.
        space: name of the latent space; see :attr:`Codec.space`.
        stride: image pixels per latent position, along each side.
        offset: x and y of the picture's upper left corner in what was coded, in image pixels:
            what lies left of it and above is the codec's padding, as may be the rest at the
            right and below.
    """

    values: Any
    space: str
    stride: int
    offset: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class CodecPoint:
    """A codec at a level, as configured: one rate point of a run.

    Attributes:
        codec: canonical name of the codec.
        level: name of the level.
        label: what the configuration calls the codec.
        key: hash of all that decides the bitstreams.
        parameters: of the level.
        provenance: what :meth:`Codec.provenance` said; hashes of checkpoints among it.
        space: name of the latent space (:attr:`Codec.space`), ``""`` without one.
        square: what pictures become before they are coded; None where they are coded as
            they are.
    """

    codec: str
    level: str
    label: str = ""
    key: str = ""
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    space: str = ""
    square: Square | None = None


#: Images as their files have them, which no codec has touched.
SOURCE = CodecPoint("uncompressed", "raw", "uncompressed")


class Codec(ABC):
    """One codec at one level.

    Images are ``PIL.Image`` in mode RGB, of any size from 1x1.  A bitstream is
    self-contained: size, padding, level and format version are in it, and every
    byte counts into the rate.  An instance is used
    by one thread at a time; instances are built in worker processes, so the
    constructor arguments must be picklable, the instance need not be.  A run builds
    every codec once to learn its provenance, before it knows whether there is
    anything to encode, so large weights are best loaded when they are first used.

    Decoding is deterministic: a bitstream gives the same pixels whatever was decoded
    before, in whichever process, with any number of threads, and whichever of its
    instructions the processor is allowed.  A run encodes and decodes in processes and
    threads of different settings, and its parts may be computed on different machines.
    An option that trades this for speed says so where it is described, and is not the
    default.
    """

    #: Name of the space in which :meth:`latents` are: equal only where the latents mean the
    #: same, up to a retraining of the network; ``""`` for a codec without latents.
    space: str = ""

    #: How many images of like size :meth:`encode_batch` and :meth:`decode_batch` want at once.
    batch_images: int = 1

    #: Whether it works on an accelerator, so that one worker for each is enough.
    wants_device: bool = False

    #: Whether :meth:`decode` gives back the size of the original.  A codec that leaves
    #: pictures scaled down, as uploads are, says False; it never gives back larger ones.
    keeps_size: bool = True

    def __init__(self, level: Level, options: Any) -> None:
        self.level = level
        self.options = options

    @abstractmethod
    def encode(self, image: Image) -> bytes:
        """Return the bitstream of *image*.

        Raises:
            ImageError: the image is outside what the format can carry.
        """

    @abstractmethod
    def decode(self, bitstream: bytes) -> Image:
        """Return the RGB image, in its original size (:attr:`keeps_size`), of *bitstream*.

        Its ``info`` is empty.

        Raises:
            BitstreamError: the bitstream is damaged, or of another codec, level
                or format version.  Decoding never crashes, hangs or allocates
                without bound, whatever the bytes.
        """

    def encode_batch(self, images: Sequence[Image]) -> list[bytes]:
        """Encode several images; overridden where batching pays.

        Bitstreams do not depend on what else is in the batch.
        """
        return [self.encode(image) for image in images]

    def decode_batch(self, bitstreams: Sequence[bytes]) -> list[Image]:
        """Decode several bitstreams; overridden where batching pays.

        Images do not depend on what else is in the batch.
        """
        return [self.decode(bitstream) for bitstream in bitstreams]

    def latents(self, bitstream: bytes) -> Latents:
        """Return the latents in *bitstream*; learned codecs only.

        Raises:
            NotImplementedError: the codec has no latents.
        """
        raise NotImplementedError(f"{type(self).__name__} has no latents")

    def provenance(self) -> Mapping[str, str]:
        """Return what else decides the bytes, for the manifest and the cache key.

        Library versions, the command line, hashes of checkpoints or
        configuration files: a change in any of them makes stored encodings
        stale.
        """
        return {}


def bits_per_pixel(bitstream_bytes: int, width: int, height: int) -> float:
    """Return the rate in bits per pixel of the original image."""
    return 8 * bitstream_bytes / (width * height)
