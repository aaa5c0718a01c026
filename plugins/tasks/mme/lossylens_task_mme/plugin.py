"""Registers MME."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import JudgedOptions

#: The published file.
DATASET = Dataset(
    name="MME",
    url="https://opencompass.openxlab.space/utils/VLMEval/MME.tsv",
    md5="b36b43c3f09801f5d368627fb92187c3",
    columns=("image_path", "question", "answer", "category"),
)


@dataclass
class MmeOptions(JudgedOptions):
    """Options of MME: ``data``, the path of MME.tsv, and ``judge``."""


SPEC = TaskSpec(
    name="mme",
    summary="Two yes-no questions per image, on perception and reasoning",
    factory="lossylens_task_mme.task:MmeTask",
    category="comprehensive",
    citation="Fu et al., MME: A Comprehensive Evaluation Benchmark for Multimodal Large "
    "Language Models, 2023, arXiv:2306.13394",
    licence="Apache-2.0",
    options=MmeOptions,
    requirements=data_needed(DATASET, "mme"),
    primary=Primary(name="perception", low=0, high=2000),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
