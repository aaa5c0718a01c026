"""Registers TextVQA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

#: The published file.
DATASET = Dataset(
    name="TextVQA",
    url="https://opencompass.openxlab.space/utils/VLMEval/TextVQA_VAL.tsv",
    md5="b233b31f551bbf4056f2f955da3a92cd",
    columns=("question", "answer"),
    optional=("split", "category"),
    folder="TextVQA_VAL",
)


@dataclass
class TextvqaOptions(TsvOptions):
    """Options of TextVQA: ``data``, the path of TextVQA_VAL.tsv."""


SPEC = TaskSpec(
    name="textvqa",
    aliases=("textvqa-val",),
    summary="Questions that need the text in a photograph to be read",
    factory="lossylens_task_textvqa.task:TextvqaTask",
    category="text recognition",
    citation="Singh et al., Towards VQA Models That Can Read, CVPR 2019, arXiv:1904.08920",
    licence="Apache-2.0",
    options=TextvqaOptions,
    requirements=data_needed(DATASET, "textvqa"),
    primary=Primary(name="Overall", low=0, high=100),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
