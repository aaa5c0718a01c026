"""The pictures that are trained on, named in a configuration and read when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from lossylens.adaptor import TrainingPicture
from lossylens.errors import ConfigError, ImageError, RequirementError
from lossylens.images import read_image
from lossylens.registry.plugins import Registry
from PIL.Image import Image

from lossylens_toolkit.photographs import check_photographs, photograph_names, photograph_path
from lossylens_toolkit.training.training_options import PictureOptions

#: Endings of the files that are taken from a folder.
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")

#: Name of each picture and how its file is read.
Pictures = Mapping[str, Callable[[], bytes]]


def find_pictures(options: PictureOptions, registry: Registry, where: str) -> Pictures:
    """Return the pictures of all sources, in a fixed order; see :func:`labelled_pictures`."""
    return {each.name: each.read for each in labelled_pictures(options, registry, where)}


def labelled_pictures(
    options: PictureOptions, registry: Registry, where: str
) -> tuple[TrainingPicture, ...]:
    """Return the pictures of all sources, in a fixed order, with their labels.

    The label of a file is the name of its folder, ``_`` for a space; tasks may give labels, and
    photographs have none.

    Args:
        options: which.
        registry: in which tasks are found.
        where: place of *options* in the configuration, for messages.

    Raises:
        ConfigError: a folder is missing, a set or a task is unknown, or there are no
            pictures at all.
        RequirementError: a package that brings the photographs is not installed.
    """
    sources = [_files(folder, f"{where}.folders") for folder in options.folders]
    if options.photographs is not None:
        sources.append(_photographs(options.photographs, f"{where}.photographs"))
    for name, given in options.tasks.items():
        sources.append(_task_images(registry, name, given, f"{where}.tasks"))
    found = {each.name: each for each in chain.from_iterable(sources)}
    if not found:
        raise ConfigError(f"{where}: no pictures; name folders, photographs or tasks")
    return tuple(found.values())


def read_picture(name: str, read: Callable[[], bytes]) -> Image:
    """Return a picture as RGB.

    Raises:
        ImageError: it cannot be decoded; the message names it.
    """
    try:
        return read_image(read(), apply_orientation=True)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def _files(folder: Path, where: str) -> Iterator[TrainingPicture]:
    if not folder.is_dir():
        raise ConfigError(f"{where}: there is no folder {folder}")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield TrainingPicture(str(path), path.read_bytes, path.parent.name.replace("_", " "))


def _photographs(name: str, where: str) -> Iterator[TrainingPicture]:
    try:
        for each in photograph_names(check_photographs(name)):
            yield TrainingPicture(f"photograph {each}", photograph_path(each).read_bytes)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except FileNotFoundError as error:
        raise RequirementError(
            f"{where}: {error}: pip install 'lossylens-toolkit[photographs]'"
        ) from error


def _task_images(
    registry: Registry, name: str, given: Any, where: str
) -> Iterator[TrainingPicture]:
    found = registry.find("task", name)
    options = registry.options(found, given or {}, f"{where}.{name}")
    # The same task with other options has other pictures under the same keys.
    chosen = ", ".join(f"{key}={value}" for key, value in (given or {}).items())
    label = f"{name} ({chosen})" if chosen else name
    for sample in registry.build_task(name, options).samples():
        for image in sample.images:
            yield TrainingPicture(f"{label} {image.key}", image.read, image.label)
