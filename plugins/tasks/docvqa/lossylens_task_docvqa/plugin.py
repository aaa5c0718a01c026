"""Registers DocVQA and InfoVQA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

_URL = "https://opencompass.openxlab.space/utils/VLMEval"

#: The published file of DocVQA.
DOCVQA = Dataset(
    name="DocVQA",
    url=f"{_URL}/DocVQA_VAL.tsv",
    md5="d5ee77e1926ff10690d469c56b73eabf",
    columns=("question", "answer"),
    optional=("split", "category"),
    folder="DocVQA_VAL",
)

#: The published file of InfoVQA.
INFOVQA = Dataset(
    name="InfoVQA",
    url=f"{_URL}/InfoVQA_VAL.tsv",
    md5="2342e9c225222f0ef4dec545ebb126fe",
    columns=("question", "answer"),
    optional=("split", "category"),
    folder="InfoVQA_VAL",
)


@dataclass
class DocvqaOptions(TsvOptions):
    """Options of DocVQA and InfoVQA: ``data``, the path of the file."""


DOCVQA_SPEC = TaskSpec(
    name="docvqa",
    aliases=("docvqa-val",),
    summary="Questions about scanned documents, answered with words of theirs",
    factory="lossylens_task_docvqa.task:DocvqaTask",
    category="documents",
    citation="Mathew et al., DocVQA: A Dataset for VQA on Document Images, WACV 2021, "
    "arXiv:2007.00398",
    licence="Apache-2.0",
    options=DocvqaOptions,
    requirements=data_needed(DOCVQA, "docvqa"),
    primary=Primary(name="Overall", low=0, high=100),
)

INFOVQA_SPEC = TaskSpec(
    name="infovqa",
    aliases=("infovqa-val", "infographicvqa"),
    summary="Questions about infographics, answered with words of theirs or by counting",
    factory="lossylens_task_docvqa.task:InfovqaTask",
    category="documents",
    citation="Mathew et al., InfographicVQA, WACV 2022, arXiv:2104.12756",
    licence="Apache-2.0",
    options=DocvqaOptions,
    requirements=data_needed(INFOVQA, "infovqa"),
    primary=Primary(name="Overall", low=0, high=100),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register both tasks."""
    register(DOCVQA_SPEC)
    register(INFOVQA_SPEC)
