"""Options of codecs on latent diffusion, and which of their files are missing.

Plugins' light modules use this: it imports neither torch nor numpy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossylens.codec import Level
from lossylens.errors import ConfigError, RequirementError
from lossylens.spec import FileSource, Missing

from lossylens_toolkit.cache_folder import cache_folder
from lossylens_toolkit.neural_codec.neural_options import (
    NANO,
    GenerativeCodecOptions,
    checkpoint_folder,
    find_checkpoint,
    missing_checkpoints,
)

#: What a model on Stable Diffusion 2 may predict; the codecs need the first.
EPSILON = "epsilon"


@dataclass
class LatentDiffusionOptions(GenerativeCodecOptions):
    """Options of a codec on latent diffusion.

    Attributes:
        dtype: of VAE, UNet and the networks beside them, ``float32``, ``bfloat16`` or
            ``float16``; what a bitstream's symbols depend on and the arithmetic of the
            sampler are never in less than ``float32``.
        base: the base weights: a folder in diffusers' layout or the official single file;
            by default looked for in ``checkpoints`` in lossylens's cache folder.
        latent_tile: side of the tiles in which the UNet treats large latents.
        latent_overlap: of neighbouring ones.
        encoder_tile: side of the inner part of the tiles, in pixels, in which the VAE
            encodes large pictures.
        decoder_tile: of those, in latents, in which it decodes them.

    Raises:
        ValueError: a value that is none of these.
    """

    dtype: str = "float32"
    base: Path | None = None
    latent_tile: int = 96
    latent_overlap: int = 32
    encoder_tile: int = 1024
    decoder_tile: int = 160

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.latent_tile < 8 or self.latent_tile % 8:
            raise ValueError("latent_tile must be a multiple of 8")
        if not 0 <= self.latent_overlap < self.latent_tile:
            raise ValueError("latent_overlap must be less than latent_tile")
        if self.encoder_tile < 32 or self.encoder_tile % 32:
            raise ValueError("encoder_tile must be a multiple of 32")
        if self.decoder_tile < 8:
            raise ValueError("decoder_tile must be at least 8")


@dataclass
class ControlledOptions(LatentDiffusionOptions):
    """Options of a codec with a controlled UNet, whose official code knows no tiles.

    Attributes:
        untiled_pixels: size of the largest picture, padded, that is treated whole, as in
            the official code; larger ones are treated in tiles, which bounds the memory
            and changes the picture.
    """

    untiled_pixels: int = 2**21

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.untiled_pixels < 0:
            raise ValueError("untiled_pixels must not be negative")


@dataclass(frozen=True)
class Base:
    """Base weights that a codec is made for.

    Attributes:
        name: for people.
        folder: under which it is looked for in diffusers' layout.
        files: under which it is looked for as a single file.
        source: where it can be had.
        size: of the single file.
        licence: of the weights.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    source: str
    size: str
    licence: str


SD21_BASE = Base(
    "Stable Diffusion 2.1-base",
    "stable-diffusion-2-1-base",
    ("v2-1_512-ema-pruned.safetensors", "v2-1_512-ema-pruned.ckpt"),
    "https://huggingface.co/stabilityai/stable-diffusion-2-1-base",
    "5.2 GB",
    "CreativeML Open RAIL++-M",
)
SD_TURBO = Base(
    "SD-Turbo",
    "sd-turbo",
    ("sd_turbo.safetensors",),
    "https://huggingface.co/stabilityai/sd-turbo",
    "5.2 GB",
    "Stability AI Community License",
)

#: Of a level, the names under which its checkpoint is published, relative to the folder.
Published = Callable[[Level], Sequence[str]]


def find_base(codec: str, base: Base, options: LatentDiffusionOptions) -> Path:
    """Return the folder or file of the base weights.

    Raises:
        RequirementError: there is none.
        ConfigError: they are of a model that predicts something else than noise.
    """
    if options.base:
        if not options.base.exists():
            raise RequirementError(f"{codec}: base: there is no {options.base}")
        candidates = [options.base]
    else:
        folder = cache_folder() / "checkpoints"
        candidates = [folder / name for name in (base.folder, *base.files)]
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        raise RequirementError(f"{codec}: there are no base weights; {_remedy(base)}")
    if found.is_dir():
        lacking = [part for part in ("unet", "vae") if not (found / part / "config.json").exists()]
        if lacking:
            raise RequirementError(
                f"{codec}: {found} is no folder in diffusers' layout: {lacking[0]}/config.json"
                f" is missing; {_remedy(base)}"
            )
        predicted = prediction_type(found)
        if predicted not in (None, EPSILON):
            raise ConfigError(wrong_prediction(found, str(predicted), base))
    return found


def prediction_type(folder: Path) -> str | None:
    """Return what a folder in diffusers' layout says that its model predicts, if it does."""
    try:
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_bytes())
        return str(config.get("prediction_type", EPSILON))
    except (OSError, ValueError, AttributeError):
        return None


def wrong_prediction(path: Path, predicted: str, base: Base) -> str:
    """Return the message about base weights of another prediction type."""
    return (
        f"{path}: the prediction type of these base weights is {predicted}, not {EPSILON}, as in"
        f" Stable Diffusion 2.1-768-v; {base.name} is needed: {_remedy(base)}"
    )


def _remedy(base: Base) -> str:
    folder = cache_folder() / "checkpoints"
    return (
        f"get {base.name} from {base.source} ({base.files[-1]}, {base.size}, or the folder with"
        f" unet, vae, text_encoder and scheduler); put it into {folder} as {base.files[-1]} or"
        f" {base.folder}, or name it with the option base"
    )


def find_level(folder: Path, level: Level, published: Published) -> Path:
    """Return the checkpoint of *level* in *folder*, under its published name or the level's.

    Raises:
        RequirementError: there is none.
    """
    for name in published(level):
        if (folder / name).is_file():
            return folder / name
    return find_checkpoint(folder, level)


@dataclass(frozen=True)
class PublishedFile:
    """A file that is published.

    Attributes:
        name: relative to the codec's folder of checkpoints.
        source: where it can be had.
        size: of it.
    """

    name: str
    source: str
    size: str


def missing_files(
    codec: str,
    package: str,
    base: Base,
    options: LatentDiffusionOptions,
    levels: Iterable[Level],
    published: Callable[[Level], PublishedFile],
    others: Sequence[PublishedFile] = (),
) -> Sequence[Missing]:
    """Say which files a codec lacks; levels only if there is none of any.

    Args:
        codec: its name.
        package: import name of its plugin, ``__package__`` there.
        base: its base weights.
        options: of the codec.
        levels: the published ones.
        published: the file of each.
        others: files that all levels need.
    """
    levels = tuple(levels)
    if options.variant == NANO:
        return missing_checkpoints(codec, package, options, levels, "")
    folder = checkpoint_folder(codec, package, options)
    lacking = []
    try:
        find_base(codec, base, options)
    except (RequirementError, ConfigError) as error:
        reason = str(error).removeprefix(f"{codec}: ")
        lacking.append(Missing(f"base weights of {codec}, {base.name}", reason, _base_source(base)))
    files = [file for file in others if not (folder / file.name).is_file()]
    if not any(_is_there(folder, level, published) for level in levels):
        files += map(published, levels)
    return [
        *lacking,
        *(
            Missing(
                f"checkpoint {file.name} of {codec}",
                f"get it from {file.source} ({file.size}); put it into {folder} under that name",
                FileSource(file.source, gigabytes=_gigabytes(file.size)),
            )
            for file in files
        ),
    ]


def _base_source(base: Base) -> FileSource:
    """Return the single file, which the hub has beside the folder."""
    name = base.files[-1]
    repository = base.source.removeprefix("https://huggingface.co/")
    target = cache_folder() / "checkpoints" / name
    return FileSource(f"hf:{repository}/{name}", str(target), _gigabytes(base.size), base.licence)


def _gigabytes(size: str) -> float:
    """Return what a text such as ``about 0.3 GB`` says."""
    return float(size.removeprefix("about ").removesuffix(" GB"))


def _is_there(folder: Path, level: Level, published: Callable[[Level], PublishedFile]) -> bool:
    try:
        find_level(folder, level, lambda each: [published(each).name])
    except RequirementError:
        return False
    return True
