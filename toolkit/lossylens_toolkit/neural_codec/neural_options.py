"""Options and levels of a learned codec, and where its checkpoints lie.

Plugins' light modules use this: it imports neither torch nor numpy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from lossylens.codec import Level
from lossylens.errors import RequirementError
from lossylens.spec import FileSource, Missing

from lossylens_toolkit.cache_folder import cache_folder

#: Endings of checkpoint files, in order of preference.
SUFFIXES = (".safetensors", ".pth.tar", ".pth", ".pt", ".ckpt")

DTYPES = ("float64", "float32", "bfloat16", "float16")
ENTROPY_DTYPES = ("float64", "float32")

#: Stem of the one checkpoint of a network that has all levels.
VARIABLE_RATE = "levels"

#: Of small networks, trained by lossylens, whose checkpoints come with the plugin.
NANO = "nano"


@dataclass
class NeuralCodecOptions:
    """Options of a learned codec.

    Attributes:
        checkpoints: folder with one checkpoint for each level; by default
            ``checkpoints/<codec>`` in lossylens's cache folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the analysis and synthesis transforms: ``float64``, which gives the same
            bitstreams and pictures on other machines and devices and with other numbers
            of threads; or ``float32``, ``bfloat16`` or ``float16``, which are faster and
            do not.  In ``float32`` a few samples of a decoded picture differ by 1, and
            now and then a symbol of a bitstream.  What decodes a bitstream is never in
            less than ``float32``.
        entropy_dtype: of the probability model when encoding: ``float64``, whose
            bitstreams other machines, devices and numbers of threads can decode, or
            ``float32``, which is faster.  The decoder takes what the bitstream says.
        batch_images: pictures of one size that a GPU transforms together; the CPU
            gains nothing and takes them one by one.
        max_pixels: largest picture that is coded, which bounds the memory.
        variant: ``official`` for checkpoints that the user has, or ``nano`` for small
            ones in the plugin's package, for demonstrations and tests.
        variants: of the codec; the first is the one that its plain name means.

    Raises:
        ValueError: a value that is none of these.
    """

    variants: ClassVar[tuple[str, ...]] = ("official", NANO)

    checkpoints: Path | None = None
    device: str = "auto"
    dtype: str = "float64"
    entropy_dtype: str = "float64"
    batch_images: int = 4
    max_pixels: int = 2**24
    variant: str = "official"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.variant not in self.variants:
            raise ValueError(f"variant {self.variant!r} is not one of {', '.join(self.variants)}")
        if self.variant == NANO and self.checkpoints:
            raise ValueError("the variant nano brings its checkpoints; leave out checkpoints")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device, re.ASCII):
            raise ValueError(f"device {self.device!r} is not auto, cpu, cuda or cuda:N")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.entropy_dtype not in ENTROPY_DTYPES:
            raise ValueError(
                f"entropy_dtype {self.entropy_dtype!r} is not one of {', '.join(ENTROPY_DTYPES)}"
            )
        if self.batch_images < 1 or self.max_pixels < 1:
            raise ValueError("batch_images and max_pixels must be at least 1")

    def qualified(self, codec: str, variant: str | None = None) -> str:
        """Return the name of *codec*, with a variant (by default this one) but the first."""
        variant = variant or self.variant
        return codec if variant == self.variants[0] else f"{codec}-{variant}"


@dataclass
class GenerativeCodecOptions(NeuralCodecOptions):
    """Options of a generative codec.

    Attributes:
        official_rate: whether to print, beside each picture's rate, the rate as the official
            script counts it, for those who compare with a paper.
    """

    official_rate: bool = False


def lambda_level(name: str) -> Level | None:
    """Return the level of a Lagrangian multiplier, ``lambda0.004``, or None."""
    match = re.fullmatch(r"lambda(0\.\d{1,8}|[1-9]\d{0,4}(\.\d{1,8})?)", name.strip().lower())
    return Level(match[0], {"lambda": float(match[1])}) if match and float(match[1]) else None


def checkpoint_folder(codec: str, package: str, options: NeuralCodecOptions) -> Path:
    """Return the folder in which the checkpoints of *codec* are looked for.

    Those of the variant nano lie in the folder ``nano`` of the plugin's *package*.
    """
    if options.variant == NANO:
        return Path(str(files(package))) / NANO
    return options.checkpoints or cache_folder() / "checkpoints" / options.qualified(codec)


#: Other stems, as patterns of :meth:`Path.glob`, under which a level's checkpoint is published.
Stems = Callable[[Level], Sequence[str]]


def no_other_stems(level: Level) -> Sequence[str]:
    """Return none: a codec whose published files have no names of their own."""
    return ()


def find_checkpoint(folder: Path, level: Level, stems: Stems = no_other_stems) -> Path:
    """Return the checkpoint of *level* in *folder*.

    It is called by the level's name, or as it was published (*stems*), with one of
    :data:`SUFFIXES`.

    Raises:
        RequirementError: there is none, or there are several that were meant; the
            message says where to put it.
    """
    for stem in (level.name, *stems(level)):
        found = [path for suffix in SUFFIXES for path in folder.glob(stem + suffix)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(sorted(path.name for path in found))
            raise RequirementError(f"several checkpoints of {level.name} in {folder}: {names}")
    raise RequirementError(
        f"there is no checkpoint of level {level.name} in {folder}."
        f" Put it there as {level.name}{SUFFIXES[1]} (or {', '.join(SUFFIXES[2:])},"
        f" {SUFFIXES[0]}), or name its folder with the option checkpoints."
    )


def nano_checkpoint(folder: Path, level: Level) -> Path:
    """Return where the nano checkpoint of *level* lies."""
    return folder / f"{level.name}{SUFFIXES[0]}"


def missing_checkpoints(
    codec: str,
    package: str,
    options: NeuralCodecOptions,
    levels: Iterable[Level],
    source: str,
    stems: Stems = no_other_stems,
    gigabytes: float = 0.0,
) -> Sequence[Missing]:
    """Say whether *codec* has no checkpoint at all; single levels are checked when used.

    Args:
        codec: its name.
        package: import name of its plugin, ``__package__`` there.
        options: of the codec.
        levels: the published ones, for the remedy.
        source: where the checkpoints can be had.
        stems: see :func:`find_checkpoint`.
        gigabytes: of the files that can be had, about; 0 where that is not known.
    """
    folder = checkpoint_folder(codec, package, options)
    if options.variant == NANO:
        lacking = [each.name for each in levels if not nano_checkpoint(folder, each).exists()]
        remedy = f"install the plugin of {codec} anew, or leave out variant if it brings none"
        return (Missing(f"nano checkpoints of {', '.join(lacking)}", remedy),) if lacking else ()
    if any(path.name.endswith(SUFFIXES) for path in folder.glob("*")):
        return ()
    names = ", ".join(f"{level.name}{SUFFIXES[1]}" for level in levels)
    about = f" (about {gigabytes:.2g} GB)" if gigabytes else ""
    remedy = f"get them from {source}{about}; put them into {folder} as {names}"
    return (Missing(f"checkpoints of {codec}", remedy, FileSource(source, gigabytes=gigabytes)),)


def missing_checkpoint_files(
    codec: str,
    package: str,
    options: NeuralCodecOptions,
    levels: Iterable[Level],
    source: Callable[[Level], str],
    stems: Stems = no_other_stems,
    gigabytes: float = 0.0,
) -> Sequence[Missing]:
    """Say which checkpoints *codec* lacks if it has none, each with a source of its own.

    Args:
        codec: its name.
        package: import name of its plugin, ``__package__`` there.
        options: of the codec.
        levels: the published ones.
        source: address of the checkpoint of a level, or what to do where it is not published.
        stems: see :func:`find_checkpoint`.
        gigabytes: of each file, about; 0 where that is not known.
    """
    levels = tuple(levels)
    found = missing_checkpoints(codec, package, options, levels, "", stems)
    if not found or options.variant == NANO:
        return found
    folder = checkpoint_folder(codec, package, options)
    return tuple(
        _missing_file(
            f"checkpoint of {codec} {level.name}", folder, level, source(level), gigabytes
        )
        for level in levels
    )


def _missing_file(what: str, folder: Path, level: Level, source: str, gigabytes: float) -> Missing:
    where = f"put it into {folder}, as published or as {level.name}{SUFFIXES[0]}"
    if not source.startswith("https://"):
        return Missing(what, f"{source}; {where}")
    target = folder / source.rpartition("/")[2]
    return Missing(what, f"get {source}; {where}", FileSource(source, str(target), gigabytes))
