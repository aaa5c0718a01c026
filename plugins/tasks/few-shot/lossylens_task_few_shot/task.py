"""Few-shot classification: labelled pictures, and one that is to be named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lossylens.errors import ConfigError, DataError
from lossylens.task import ImageRef, Resampling, Sample, Score, Task
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.tsv_task.choice import OPTION_LETTERS, extract_choice
from lossylens_toolkit.tsv_task.unusable import unusable

from lossylens_task_few_shot.answers import begins_with, is_name
from lossylens_task_few_shot.groups import (
    Group,
    class_of,
    drawn,
    invented_names,
    listed,
    read_names,
)
from lossylens_task_few_shot.plugin import SPEC, FewShotOptions

_MOST_WAYS, _MOST_SHOTS = 20, 10


@dataclass(frozen=True, slots=True)
class Picture:
    """Reads a picture of a class folder; picklable."""

    path: Path

    def __call__(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from error


class FewShotTask(Task):
    """Groups of labelled pictures and a query.

    Args:
        options: of the task.

    Raises:
        ConfigError: an option is out of its range.
        DataError: folder, list or names cannot be read.
    """

    def __init__(self, options: FewShotOptions) -> None:
        for name, most in (("ways", _MOST_WAYS), ("shots", _MOST_SHOTS), ("groups", 10**6)):
            least = 2 if name == "ways" else 1
            value = getattr(options, name)
            if not least <= value <= most:
                raise ConfigError(
                    f"tasks.few-shot.{name} must be between {least} and {most}, not {value}"
                )
        self.options = options
        self.folder = Path(options.data).expanduser()
        self._names = read_names(Path(options.names).expanduser()) if options.names else {}

    @cached_property
    def groups(self) -> dict[str, Group]:
        """All groups by id."""
        options = self.options
        if options.list:
            found = listed(Path(options.list).expanduser(), self.folder)
        else:
            found = drawn(self.folder, options.ways, options.shots, options.groups, options.seed)
        return {group.id: group for group in found}

    def names(self, group: Group) -> dict[str, str]:
        """Return what the classes of a group are called, in the order in which they are shown."""
        if self.options.invented:
            words = invented_names(len(group.classes), f"{self.options.seed} {group.id}")
            return dict(zip(group.classes, words, strict=True))
        return {
            each: self._names.get(each, each.rpartition("/")[2].replace("_", " "))
            for each in group.classes
        }

    def samples(self) -> Iterator[Sample]:
        """Yield all groups; one that has too few pictures fails."""
        for group in self.groups.values():
            names = self.names(group)
            if group.problem:
                images: tuple[ImageRef, ...] = (unusable(group.id, DataError(group.problem)),)
            else:
                images = self._images(group)
            yield Sample(
                group.id,
                images,
                self._question(group, names),
                {"answer": self._answer(group), "class": class_of(group.query)},
                cluster=group.id,
            )

    def _images(self, group: Group) -> tuple[ImageRef, ...]:
        as_they_are = {"all": (False, False), "query": (True, False), "context": (False, True)}
        shown, query = as_they_are[self.options.compress]
        return (
            *(ImageRef(path, Picture(self.folder / path), context=shown) for path in group.shown),
            ImageRef(group.query, Picture(self.folder / group.query), context=query),
        )

    def _question(self, group: Group, names: Mapping[str, str]) -> Question:
        # A group that cannot be asked has no pictures to mark.
        shown = () if group.problem else group.shown
        told = "".join(
            f"<image {number}>\nThis is: {names[class_of(path)]}\n"
            for number, path in enumerate(shown, 1)
        )
        marker = "" if group.problem else f"<image {len(shown) + 1}>\n"
        if self.options.answer == "letter":
            text = f"{told}{marker}What is this?"
            return Question(
                QuestionKind.MULTIPLE_CHOICE, text, task=SPEC.name, options=_lettered(names)
            )
        choice = ", ".join(sorted(names.values()))
        text = f"Answer with one of these names: {choice}.\n{told}{marker}This is:"
        return Question(QuestionKind.OPEN, text, task=SPEC.name)

    def _answer(self, group: Group) -> str:
        names, asked = self.names(group), class_of(group.query)
        if asked not in names:
            return ""
        if self.options.answer == "letter":
            return OPTION_LETTERS[list(names).index(asked)]
        return names[asked]

    def score(self, predictions: Mapping[str, str | None]) -> Score:
        """Score answers, over the groups that have one.

        Raises:
            DataError: a prediction for an unknown group, or none at all.
        """
        unknown = predictions.keys() - self.groups.keys()
        if unknown:
            raise DataError(f"predictions for groups that there are not: {sorted(unknown)[0]}")
        asked = [group for group in self.groups.values() if group.id in predictions]
        if not asked:
            raise DataError(f"{self.folder}: no predictions for its {len(self.groups)} groups")
        verdicts: dict[str, float | None] = {}
        equal, extracted = [], {}
        for group in asked:
            text = predictions[group.id] or ""
            right, named, found = self._judged(group, text)
            verdicts[group.id] = float(right)
            equal.append(float(named))
            extracted[group.id] = found
        accuracy = sum(filter(None, verdicts.values())) / len(asked)
        metrics = {"accuracy": accuracy}
        if self.options.answer == "name":
            metrics["accuracy by VL-ICL's rule"] = sum(equal) / len(asked)
        failed = [group.id for group in asked if predictions[group.id] is None]
        return Score(
            metrics=metrics,
            value=accuracy,
            verdicts=verdicts,
            extracted=extracted,
            samples=len(self.groups),
            missing=len(self.groups) - len(asked),
            failed=len(failed),
            unextracted=sum(not text for text in extracted.values()) - len(failed),
            resampling=Resampling.mean(verdicts),
        )

    def _judged(self, group: Group, text: str) -> tuple[bool, bool, str]:
        """Return whether an answer is right by the rule that counts and by the other, and it."""
        names, answer = self.names(group), self._answer(group)
        if self.options.answer == "letter":
            choice = extract_choice(text, _lettered(names)) or ""
            return bool(answer) and choice == answer, False, choice
        found = next((name for name in names.values() if begins_with(text, name)), "")
        if not answer:
            return False, False, found
        return begins_with(text, answer), is_name(text, answer), found

    def fingerprint(self) -> str:
        """Return a hash of the groups, what classes are called, and the sizes of their files."""
        digest = hashlib.sha256()
        sizes: dict[str, int] = {}
        for group in self.groups.values():
            for path in () if group.problem else (*group.shown, group.query):
                if path not in sizes:
                    sizes[path] = (self.folder / path).stat().st_size
            digest.update(f"{group!r} {self.names(group)!r}\n".encode())
        digest.update(repr(sorted(sizes.items())).encode())
        return digest.hexdigest()

    def provenance(self) -> Mapping[str, str]:
        """Return what makes the groups again."""
        options = self.options
        return {
            "folder": str(self.folder),
            "groups": f"listed in {options.list}"
            if options.list
            else f"drawn, seed {options.seed}",
            "compressed": options.compress,
        }


def _lettered(names: Mapping[str, str]) -> dict[str, str]:
    return dict(zip(OPTION_LETTERS, names.values(), strict=False))
