"""Video-MME, scored as the reference evaluator scores it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lossylens.errors import ConfigError, DataError
from lossylens.task import Sample
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.tsv_task import (
    Judged,
    Row,
    Summary,
    TsvTask,
    Verdict,
    mean_credit,
    string_list,
)
from lossylens_toolkit.tsv_task.tsv_options import DOWNLOAD

from lossylens_task_video_mme.answers import first_letter
from lossylens_task_video_mme.films import Film, Sampling, failing, films_of
from lossylens_task_video_mme.plugin import DATASET, SPEC, VideoMmeOptions
from lossylens_task_video_mme.subtitles import said_at

DURATIONS = ("short", "medium", "long")
OVERALL = "overall"

#: What scores are broken down by, with what the evaluator's tables have, in their order.
GROUPS = {
    "domain": (
        "Knowledge",
        "Film & Television",
        "Sports Competition",
        "Artistic Performance",
        "Life Record",
        "Multilingual",
    ),
    "sub_category": (
        *("Humanity & History", "Literature & Art", "Biology & Medicine", "Finance & Commerce"),
        *("Astronomy", "Geography", "Law", "Life Tip", "Technology", "Animation"),
        *("Movie & TV Show", "Documentary", "News Report", "Esports", "Basketball", "Football"),
        *("Athletics", "Other Sports", "Stage Play", "Magic Show", "Variety Show", "Acrobatics"),
        *("Handicraft", "Food", "Fashion", "Daily Life", "Travel", "Pet & Animal", "Exercise"),
        "Multilingual",
    ),
    "task_type": (
        *("Temporal Perception", "Spatial Perception", "Attribute Perception"),
        *("Action Recognition", "Object Recognition", "OCR Problems", "Counting Problem"),
        *("Temporal Reasoning", "Spatial Reasoning", "Action Reasoning", "Object Reasoning"),
        "Information Synopsis",
    ),
}

_FRAMES = "\nThese are the frames of a video. "
_SAID = "This video's subtitles are listed below:\n{}\n"
_REQUEST = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
)
_MOST_FRAMES = 10_000


class VideoMmeTask(TsvTask):
    """Questions on films, of which some frames are shown."""

    spec = SPEC
    dataset = DATASET
    options: VideoMmeOptions

    def __init__(self, options: VideoMmeOptions) -> None:
        if options.data == DOWNLOAD:
            raise ConfigError(
                "tasks.video-mme.data: there is no file to download; VLMEvalKit makes"
                " Video-MME.tsv when it fetches the films"
            )
        super().__init__(options)
        if not 1 <= options.frames <= _MOST_FRAMES:
            raise ConfigError(
                f"tasks.video-mme.frames must be between 1 and {_MOST_FRAMES}, not {options.frames}"
            )
        if not 0 <= options.fps <= 1000:
            raise ConfigError(
                f"tasks.video-mme.fps must be between 0 and 1000, not {options.fps:g}"
            )
        sampling = Sampling(options.frames, options.fps)
        self._films = films_of(options.films, options.pictures, self.table.path, sampling)

    def check(self, row: Row) -> None:
        """Check answer, duration and groups.

        Raises:
            DataError: one of them is missing or unknown.
        """
        self.one_of(row, "answer", ("A", "B", "C", "D"))
        self.one_of(row, "duration", DURATIONS)
        for column, names in GROUPS.items():
            self.one_of(row, column, names)

    def samples(self) -> Iterator[Sample]:
        """Yield all samples; one whose film cannot be read, or is too short, fails.

        Raises:
            DataError: a malformed row, when it is reached.
        """
        for row in self.table:
            self.check(row)
            film: Film | None = None
            lines: list[str] = []
            try:
                film = self._films.film(row)
                lines = self._said(row, film)
                images = film.pictures
            except DataError as error:
                images = failing(row, self.options.frames, error)
            yield Sample(
                row.id,
                images,
                self._asked(row, lines),
                {**self.fields(row), **_length(film)},
                cluster=row.text("video"),
            )

    def question(self, row: Row) -> Question:
        """Return the question, without subtitles."""
        return self._asked(row, [])

    def _asked(self, row: Row, lines: Sequence[str]) -> Question:
        candidates = string_list(row.text("candidates"))
        if candidates is None:
            raise row.error("candidates", "not a list of texts, such as ['A. One.', 'B. Two.']")
        said = _SAID.format("\n".join(lines)) if self.options.subtitles else ""
        asked = "\n".join([row.text("question"), *candidates])
        text = f"{_FRAMES}{said}{_REQUEST}Question: {asked}\nAnswer: "
        return Question(QuestionKind.OPEN, text, task=self.spec.name)

    def _said(self, row: Row, film: Film) -> list[str]:
        """Return the subtitles at the frames, none for a film that has none.

        Raises:
            DataError: the file is damaged, or it is not known when frames are shown.
        """
        named = row.get("subtitle_path")
        if not self.options.subtitles or named is None:
            return []
        try:
            path = self._films.at(named)
            if not path.is_file():
                return []
            if film.indices is None or film.fps is None:
                raise ValueError(
                    "it is not known when the frames are shown; add film.json with frames and fps"
                    " to the folder of pictures, or set tasks.video-mme.subtitles to false"
                )
            return said_at(path, film.indices, film.fps)
        except (ValueError, OSError) as error:
            raise row.error("subtitle_path", str(error)) from error

    def fields(self, row: Row) -> Mapping[str, str]:
        """Return film, answer and groups; reports tell durations apart."""
        names = ("video", *GROUPS, "answer")
        return {"topic": row.text("duration"), **{name: row.text(name) for name in names}}

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Compare the first letter with the answer; none is wrong."""
        letter = first_letter(prediction)
        return Verdict(float(letter == row.text("answer")), letter, found=bool(letter))

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the share of right answers by duration and over all, of all and by group.

        What no row is of is left out.
        """
        metrics: dict[str, Any] = {}
        for duration in DURATIONS:
            members = [each for each in judged if each.row.text("duration") == duration]
            if members:
                metrics[duration] = _shares(members)
        metrics[OVERALL] = _shares(judged)
        return Summary(metrics, resampling=mean_credit(judged))

    def fingerprint(self) -> str:
        """Return a hash of the file, and of the state of films and subtitles."""
        digest = hashlib.sha256(super().fingerprint().encode())
        seen: set[str] = set()
        for row in self.table:
            if row.text("video") not in seen:
                seen.add(row.text("video"))
                digest.update(f"{self._films.state(row)}\n{self._subtitles_state(row)}\n".encode())
        return digest.hexdigest()

    def _subtitles_state(self, row: Row) -> str:
        path = self._films.folder / (row.get("subtitle_path") or "")
        if not self.options.subtitles or not path.is_file():
            return ""
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def provenance(self) -> Mapping[str, str]:
        """Return file, checksums and where frames come from."""
        return {**super().provenance(), **self._films.provenance()}


def _length(film: Film | None) -> dict[str, str]:
    if film is None or film.seconds is None:
        return {}
    return {"seconds": f"{film.seconds:.3f}"}


def _shares(judged: Sequence[Judged]) -> dict[str, Any]:
    found: dict[str, Any] = {OVERALL: _share(judged)}
    for column, names in GROUPS.items():
        members: dict[str, list[Judged]] = {}
        for each in judged:
            members.setdefault(each.row.text(column), []).append(each)
        found[column] = {name: _share(members[name]) for name in names if name in members}
    return found


def _share(judged: Sequence[Judged]) -> float:
    return sum(each.verdict.credit or 0.0 for each in judged) / len(judged)
