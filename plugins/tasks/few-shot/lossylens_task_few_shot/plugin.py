"""Registers few-shot classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lossylens.hookspecs import hookimpl
from lossylens.spec import MANDATORY, OPERATIONAL, Missing, path_if
from lossylens.task import Primary, TaskSpec

# What decides results are the groups and their files: see FewShotTask.fingerprint.
_PATH = {**OPERATIONAL, **path_if(lambda text: text not in ("", MANDATORY))}


@dataclass
class FewShotOptions:
    """Options of few-shot classification.

    Attributes:
        data: folder with a folder of pictures for each class.
        ways: classes in a group.
        shots: labelled pictures of each class.
        groups: so many are drawn.
        seed: the same seed draws the same groups of the same files.
        list: file of groups, one a line, in place of drawing them: paths below ``data``
            between commas, the last one the query.
        names: file that says what classes are called: folder, blank, name; without it, they
            are called as their folders.
        invented: whether classes are called by words that mean nothing, so that the labelled
            pictures are all that tells.
        answer: with the letter of one of the names, or the name itself.
        compress: which pictures are; the others are shown as they are, and leave the rate.
    """

    data: str = field(default=MANDATORY, metadata=_PATH)
    ways: int = 5
    shots: int = 1
    groups: int = 5000
    seed: int = 0
    list: str = field(default="", metadata=_PATH)
    names: str = field(default="", metadata=_PATH)
    invented: bool = False
    answer: Literal["letter", "name"] = "letter"
    compress: Literal["all", "query", "context"] = "all"


def missing(options: FewShotOptions) -> Sequence[Missing]:
    """Return the folder, if it is not there."""
    if options.data != MANDATORY and Path(options.data).expanduser().is_dir():
        return ()
    what = "the folder of class folders"
    if options.data != MANDATORY:
        what += f" at {options.data}"
    return (Missing(what, "set tasks.few-shot.data to its path"),)


SPEC = TaskSpec(
    name="few-shot",
    summary="Which of five labelled pictures shows the same as the last? (5-way 1-shot)",
    factory="lossylens_task_few_shot.task:FewShotTask",
    category="several images",
    citation="Zhu et al., Beyond Text: Frozen Large Language Models in Visual Signal "
    "Comprehension (V2L-Tokenizer), CVPR 2024, arXiv:2403.07874; Zong et al., VL-ICL Bench, "
    "ICLR 2025, arXiv:2403.13164",
    licence="Apache-2.0",
    options=FewShotOptions,
    requirements=missing,
    primary=Primary(name="accuracy", low=0, high=1),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
