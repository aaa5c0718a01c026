"""Registers ChartQA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

#: The published file.
DATASET = Dataset(
    name="ChartQA",
    url="https://opencompass.openxlab.space/utils/VLMEval/ChartQA_TEST.tsv",
    md5="c902e0aa9be5582a7aad6dcf52734b42",
    columns=("question", "answer"),
    optional=("split", "category"),
    folder="ChartQA_TEST",
)


@dataclass
class ChartqaOptions(TsvOptions):
    """Options of ChartQA: ``data``, the path of ChartQA_TEST.tsv."""


SPEC = TaskSpec(
    name="chartqa",
    aliases=("chartqa-test",),
    summary="Questions about charts, answered with a number or a word",
    factory="lossylens_task_chartqa.task:ChartqaTask",
    category="documents",
    citation="Masry et al., ChartQA: A Benchmark for Question Answering about Charts with "
    "Visual and Logical Reasoning, Findings of ACL 2022, arXiv:2203.10244",
    licence="Apache-2.0",
    options=ChartqaOptions,
    requirements=data_needed(DATASET, "chartqa"),
    primary=Primary(name="Overall", low=0, high=100),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
