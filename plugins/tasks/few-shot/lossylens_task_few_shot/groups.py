"""Groups of labelled pictures and a query: drawn from folders of classes, or listed in a file."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossylens.errors import DataError
from lossylens_toolkit.tsv_task.place import Place

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True)
class Group:
    """Labelled pictures and a query.

    Attributes:
        id: unique.
        shown: paths of the labelled pictures below the folder of classes.
        query: path of the picture that is asked about.
        problem: why it cannot be asked, or ``""``; file, row and what to do.
    """

    id: str
    shown: tuple[str, ...]
    query: str
    problem: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the labelled pictures, each once, in order."""
        return tuple(dict.fromkeys(map(class_of, self.shown)))


def class_of(path: str) -> str:
    """Return the folder that a picture is in."""
    return path.rpartition("/")[0]


def class_folders(folder: Path) -> dict[str, list[str]]:
    """Return the names of the pictures of each class, all sorted.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; it must hold a folder of pictures for each class"
        )
    return {
        each.name: sorted(file.name for file in each.iterdir() if file.suffix.lower() in _PICTURES)
        for each in sorted(folder.iterdir())
        if each.is_dir()
    }


def drawn(folder: Path, ways: int, shots: int, groups: int, seed: int) -> Iterator[Group]:
    """Draw groups, each on its own: more groups begin with the same ones.

    Args:
        folder: of the classes.
        ways: classes in a group.
        shots: labelled pictures of each class.
        groups: how many.
        seed: of the drawing.

    Raises:
        DataError: there is no such folder, or it has too few classes.
    """
    classes = class_folders(folder)
    if len(classes) < ways:
        raise DataError(
            f"{folder}: {len(classes)} class folders, fewer than the {ways} of a group; add some,"
            " or set tasks.few-shot.ways"
        )
    names = sorted(classes)
    for number in range(groups):
        rng = random.Random(f"few-shot {seed} {number}")  # noqa: S311 - no secrets are drawn
        chosen = rng.sample(names, ways)
        asked = rng.choice(chosen)
        shown, query, problem = [], "", ""
        for name in chosen:
            count = shots + (name == asked)
            files = classes[name]
            if len(files) < count:
                has = "1 image" if len(files) == 1 else f"{len(files)} images"
                problem = (
                    f"{folder / name}: {has} where group {number} needs {count}"
                    f"{', the query among them' * (name == asked)}; add some, or remove the folder"
                )
                continue
            taken = [f"{name}/{file}" for file in rng.sample(files, count)]
            query = taken.pop() if name == asked else query
            shown += taken
        if not problem:
            # Pictures of one class do not follow each other.
            rng.shuffle(shown)
        yield Group(str(number), tuple(shown), query or f"{asked}/", problem)


def listed(file: Path, folder: Path) -> Iterator[Group]:
    """Read groups, one a line: paths between commas, the last one the query.

    A comma may end the line, as in V2L-Tokenizer's files.

    Args:
        file: of the groups.
        folder: of the classes.

    Raises:
        DataError: the file cannot be read, or has no groups.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file}: cannot be read: {reason}") from error
    found = False
    for number, line in enumerate(lines, 1):
        paths = [path.strip() for path in line.split(",") if path.strip()]
        if not paths:
            continue
        found = True
        *shown, query = paths
        problem = _fault(shown, query, folder)
        if problem:
            problem = str(Place(str(file), number).error(problem))
        yield Group(str(number), tuple(shown), query, problem)
    if not found:
        raise DataError(f"{file}: no groups; each is a line of paths between commas")


def _fault(shown: Sequence[str], query: str, folder: Path) -> str:
    for path in (*shown, query):
        if "\0" in path or ".." in Path(path).parts or Path(path).is_absolute() or "/" not in path:
            return f"{path!r} is not a path of a class folder and a picture in it"
    if class_of(query) not in map(class_of, shown):
        return (
            f"no labelled picture is of the query's class {class_of(query)!r}; add one to the line"
        )
    if query in shown:
        return f"the query {query!r} is labelled too; put another picture in its place"
    absent = [path for path in (*shown, query) if not (folder / path).is_file()]
    return f"no file {absent[0]!r} in {folder}; add it, or remove the line" if absent else ""


def invented_names(count: int, seed: str) -> list[str]:
    """Return *count* words that mean nothing; none begins like another."""
    rng = random.Random(f"names {seed}")  # noqa: S311 - no secrets are drawn
    starts = rng.sample([c + v for c in _CONSONANTS for v in _VOWELS], count)
    return [
        start + rng.choice(_CONSONANTS) + rng.choice(_VOWELS) + rng.choice(_CONSONANTS)
        for start in starts
    ]


def read_names(file: Path) -> dict[str, str]:
    """Return what classes are called, by folder: the first of several names between commas.

    Raises:
        DataError: the file cannot be read, or a line has no name.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file}: cannot be read: {reason}") from error
    names = {}
    for number, line in enumerate(lines, 1):
        folder, *rest = line.split(None, 1)[:2] or [""]
        name = rest[0].split(",")[0].strip() if rest else ""
        if folder and not name:
            raise Place(str(file), number).error(f"no name for the class {folder!r}")
        if folder:
            names[folder] = name
    return names
