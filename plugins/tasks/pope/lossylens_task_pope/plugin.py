"""Registers POPE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import JudgedOptions

#: The published file.
DATASET = Dataset(
    name="POPE",
    url="https://opencompass.openxlab.space/utils/VLMEval/POPE.tsv",
    md5="c12f5acb142f2ef1f85a26ba2fbe41d5",
    columns=("question", "answer", "category"),
)


@dataclass
class PopeOptions(JudgedOptions):
    """Options of POPE: ``data``, the path of POPE.tsv, and ``judge``."""


SPEC = TaskSpec(
    name="pope",
    summary="Is there a certain object in the image? Yes or no (object hallucination)",
    factory="lossylens_task_pope.task:PopeTask",
    category="hallucination",
    citation="Li et al., Evaluating Object Hallucination in Large Vision-Language Models, "
    "EMNLP 2023, arXiv:2305.10355",
    licence="Apache-2.0",
    options=PopeOptions,
    requirements=data_needed(DATASET, "pope"),
    primary=Primary(name="Overall/Overall", low=0, high=100),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
