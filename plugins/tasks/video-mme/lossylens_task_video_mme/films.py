"""The frames of films: extracted from film files once, or given as pictures."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from filelock import FileLock
from lossylens.errors import DataError
from lossylens.task import ImageRef
from lossylens_toolkit.cache_folder import cache_folder
from lossylens_toolkit.checksums import file_checksums
from lossylens_toolkit.isolated import RefusedError, isolated
from lossylens_toolkit.tsv_task import Row
from lossylens_toolkit.tsv_task.place import Place
from lossylens_toolkit.tsv_task.unusable import unusable

from lossylens_task_video_mme.sampling import at_rate, evenly_spaced

#: What is known of a film, beside its frames: ``frames`` (how many it has), ``fps``.
NOTES = "film.json"

#: Seconds and bytes that reading a film may take; the longest of the data set lasts an hour.
_SECONDS, _MEMORY = 3600.0, 4 * 2**30

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Sampling:
    """Which frames are shown: a number of them, or so many per second."""

    count: int
    fps: float

    def indices(self, frames: int, film_fps: float | None) -> list[int]:
        """Return the frames of a film that has *frames*.

        Raises:
            ValueError: it has too few, or its speed is needed and not known.
        """
        if self.fps <= 0:
            if frames < self.count:
                raise ValueError(
                    f"{frames} frames, fewer than the {self.count} that are asked for; replace"
                    f" it, or set tasks.video-mme.frames to at most {frames}"
                )
            return evenly_spaced(frames, self.count)
        if film_fps is None:
            raise ValueError(f"no {NOTES} that says how many frames a second has (fps)")
        found = at_rate(frames, film_fps, self.fps)
        if not found:
            raise ValueError(
                f"{frames / film_fps:g} seconds, too few for one frame at {self.fps:g} per"
                " second; raise tasks.video-mme.fps"
            )
        return found


@dataclass(frozen=True)
class Film:
    """A film, as it is shown.

    Attributes:
        pictures: of its frames, in order.
        indices: of the frames; None where it is not known which of the film's they are.
        fps: of the film, None if it is not known.
        seconds: that it lasts, None if that is not known.
    """

    pictures: tuple[ImageRef, ...]
    indices: tuple[int, ...] | None
    fps: float | None
    seconds: float | None


class Films(ABC):
    """Where films are.

    Attributes:
        column: that names a film, for error messages.
    """

    column: str

    def __init__(self, folder: Path, sampling: Sampling) -> None:
        self.folder, self.sampling = folder, sampling
        self._known: dict[str, Film | str] = {}

    def film(self, row: Row) -> Film:
        """Return the film of *row*; each is looked at once.

        Raises:
            DataError: it cannot be read, or has too few frames.
        """
        name = row.text("video")
        if name not in self._known:
            try:
                self._known[name] = self._open(row, name)
            except (ValueError, OSError) as error:
                self._known[name] = str(error)
        found = self._known[name]
        if isinstance(found, str):
            raise row.error(self.column, found)
        return found

    @abstractmethod
    def state(self, row: Row) -> str:
        """Return what changes when another film is put in the place of that of *row*.

        It is cheap to have: no film is read.
        """

    @abstractmethod
    def _open(self, row: Row, name: str) -> Film:
        """Return the film *name*.

        Raises:
            ValueError: it cannot be read, or has too few frames.
        """

    @abstractmethod
    def provenance(self) -> Mapping[str, str]:
        """Return where frames come from."""

    def at(self, path: str) -> Path:
        """Return where a path of the data is.

        Raises:
            ValueError: it leads out of the folder.
        """
        if "\0" in path or ".." in Path(path).parts or Path(path).is_absolute():
            raise ValueError(f"{path!r} is not a path below {self.folder}")
        return self.folder / path


class FilmFiles(Films):
    """Film files, of which the frames are extracted when the first of them is read."""

    column = "video_path"

    def state(self, row: Row) -> str:
        """Return the size of the file."""
        path = self.folder / row.text(self.column)
        return str(path.stat().st_size) if path.is_file() else "absent"

    def _open(self, row: Row, name: str) -> Film:
        path = self.at(row.text(self.column))
        if not path.is_file():
            raise ValueError(
                f"no film at {path}; put it there, or name the folder of films in"
                " tasks.video-mme.films, or that of pictures in tasks.video-mme.pictures"
            )
        sha256 = file_checksums(path, "sha256")["sha256"]
        notes = _inspected(path, sha256)
        frames, fps = notes["frames"], float(Fraction(notes["fps"]))
        try:
            indices = self.sampling.indices(frames, fps)
        except ValueError as error:
            raise ValueError(f"{path} has {error}") from error
        count = len(indices)
        times = tuple(notes["times"][index] for index in indices)
        folder = _extracted_to(sha256) / hashlib.sha256(repr(times).encode()).hexdigest()[:16]
        files = tuple(folder / f"frame-{n}-of-{count}.png" for n in range(1, count + 1))
        frame = Extraction(path, sha256, times, files)
        # A frame that is shown twice is one picture.
        pictures = tuple(
            ImageRef(f"{name} {index}", Frame(frame, indices.index(index), row.place(self.column)))
            for index in indices
        )
        return Film(pictures, tuple(indices), fps, frames / fps)

    def provenance(self) -> Mapping[str, str]:
        """Return with what frames are extracted."""
        import av

        libraries = ", ".join(
            f"{name} {'.'.join(map(str, av.library_versions[name]))}"
            for name in ("libavcodec", "libswscale")
        )
        return {
            "films": str(self.folder),
            "frames": f"extracted with PyAV {av.__version__} ({libraries}), kept as PNG",
        }


def _extracted_to(sha256: str) -> Path:
    return cache_folder() / "films" / sha256


def _inspected(path: Path, sha256: str) -> dict[str, Any]:
    """Return what :func:`~.film_reading.inspect` found, now or before, and keep it."""
    file = _extracted_to(sha256) / NOTES
    if not file.is_file():
        found = json.loads(
            _call("inspect", {"path": str(path)}, f"{path} cannot be read as a film")
        )
        _write(file, {"film": path.name, "sha256": sha256, **found})
    notes: dict[str, Any] = json.loads(file.read_bytes())
    return notes


def _call(function: str, request: Mapping[str, Any], problem: str) -> bytes:
    reader = isolated(f"{__package__}.film_reading:{function}", seconds=_SECONDS, memory=_MEMORY)
    try:
        return reader(json.dumps(request).encode())
    except RefusedError as error:
        raise ValueError(f"{problem} ({error}); replace it") from error


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(file)


@dataclass(frozen=True)
class Extraction:
    """What is to be extracted: frames at *times*, in units of the film's stream, to *files*."""

    path: Path
    sha256: str
    times: tuple[int, ...]
    files: tuple[Path, ...]

    def make(self) -> None:
        """Extract the frames, unless they are there.

        Raises:
            ValueError: the film is damaged.
        """
        folder = self.files[0].parent
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "extraction.lock"):
            if all(file.is_file() for file in self.files):
                return
            fresh = [file.with_suffix(".new") for file in self.files]
            request = {"path": str(self.path), "times": self.times, "files": [*map(str, fresh)]}
            _call("extract", request, f"frames of {self.path} cannot be extracted")
            for new, file in zip(fresh, self.files, strict=True):
                new.replace(file)
            import av

            note = {"film": self.path.name, "sha256": self.sha256, "times": self.times}
            _write(folder / "extraction.json", {**note, "pyav": av.__version__})


@dataclass(frozen=True)
class Frame:
    """Reads one frame; picklable.

    Attributes:
        extraction: that it is of.
        number: among its frames.
        place: the row that names the film, for error messages.
    """

    extraction: Extraction
    number: int
    place: Place

    def __call__(self) -> bytes:
        """Return the PNG file, which is extracted with the others if need be.

        Raises:
            DataError: the film is damaged, or gone.
        """
        file = self.extraction.files[self.number]
        try:
            if not file.is_file():
                self.extraction.make()
            return file.read_bytes()
        except (ValueError, OSError) as error:
            raise self.place.error(str(error)) from error


class PictureFolders(Films):
    """A folder of pictures for each film.

    Pictures called ``frame-<i>-of-<n>``, as the reference evaluator calls them, are the frames
    that are asked for; otherwise the pictures, in the order of their names, are all of the film.
    """

    column = "video"

    def state(self, row: Row) -> str:
        """Return names and sizes of the files."""
        folder = self.folder / row.text(self.column)
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        return repr([(file.name, file.stat().st_size) for file in files])

    def _open(self, row: Row, name: str) -> Film:
        folder = self.at(name)
        if not folder.is_dir():
            raise ValueError(f"no folder of pictures at {folder}")
        files = sorted(
            (file for file in folder.iterdir() if file.suffix.lower() in _PICTURES), key=_natural
        )
        notes = _noted(folder / NOTES)
        fps = notes.get("fps")
        sampled = _sampled(files, self.sampling.count) if self.sampling.fps <= 0 else None
        frames = notes.get("frames") if sampled else len(files)
        indices = None
        try:
            if sampled is None:
                indices = self.sampling.indices(len(files), fps)
                sampled = [files[index] for index in indices]
            elif frames is not None:
                indices = self.sampling.indices(int(frames), fps)
        except ValueError as error:
            raise ValueError(f"{folder} has {error}") from error
        place = row.place(self.column)
        pictures = tuple(
            ImageRef(f"{name}/{file.name}", PictureFile(file, place)) for file in sampled
        )
        seconds = None if fps is None or frames is None else float(frames) / fps
        return Film(pictures, None if indices is None else tuple(indices), fps, seconds)

    def provenance(self) -> Mapping[str, str]:
        """Return where the pictures are."""
        return {"frames": f"pictures in {self.folder}"}


@dataclass(frozen=True)
class PictureFile:
    """Reads a picture of a film; picklable."""

    path: Path
    place: Place

    def __call__(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise self.place.error(f"{self.path}: {error.strerror}") from error


def _natural(file: Path) -> list[tuple[int, str]]:
    """Return a key that has 10 behind 9."""
    parts = _DIGITS.split(file.name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _sampled(files: Sequence[Path], count: int) -> list[Path] | None:
    """Return the files that are called frames 1 to *count*, None if there are none."""
    by_name = {file.stem: file for file in files}
    names = [f"frame-{number}-of-{count}" for number in range(1, count + 1)]
    return [by_name[name] for name in names] if by_name.keys() >= set(names) else None


def _noted(file: Path) -> dict[str, float]:
    """Return the notes on a film.

    Raises:
        ValueError: they are malformed.
    """
    if not file.is_file():
        return {}
    try:
        notes = json.loads(file.read_bytes())
        found = {name: float(notes[name]) for name in ("frames", "fps") if name in notes}
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON with the numbers frames and fps") from error
    if not all(0 < value < 10**9 for value in found.values()):
        raise ValueError(f"{file}: frames and fps must be positive")
    return found


def films_of(films: str, pictures: str, beside: Path, sampling: Sampling) -> Films:
    """Return where the films of a data set are, by its options.

    Args:
        films: folder, or ``""`` for that of the data.
        pictures: folder of pictures, or ``""``.
        beside: the data file.
        sampling: which frames are shown.
    """
    if pictures:
        return PictureFolders(Path(pictures).expanduser(), sampling)
    return FilmFiles(Path(films).expanduser() if films else beside.parent, sampling)


def failing(row: Row, count: int, error: DataError) -> tuple[ImageRef, ...]:
    """Return *count* pictures that cannot be read, for a film that cannot be."""
    return (unusable(row.id, error),) * count
