"""Registers MMMU."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import JudgedOptions

#: The published file.
DATASET = Dataset(
    name="MMMU",
    url="https://opencompass.openxlab.space/utils/VLMEval/MMMU_DEV_VAL.tsv",
    md5="585e8ad75e73f75dcad265dfd0417d64",
    columns=("question", "A", "B", "answer", "category", "l2-category"),
    optional=(*string.ascii_uppercase[2:], "split"),
    folder="MMMU_DEV_VAL",
)


@dataclass
class MmmuOptions(JudgedOptions):
    """Options of MMMU: ``data``, the path of MMMU_DEV_VAL.tsv, and ``judge``."""


SPEC = TaskSpec(
    name="mmmu",
    aliases=("mmmu-dev-val",),
    summary="College-level questions of thirty subjects, some about several images",
    factory="lossylens_task_mmmu.task:MmmuTask",
    category="comprehensive",
    citation="Yue et al., MMMU: A Massive Multi-discipline Multimodal Understanding and "
    "Reasoning Benchmark for Expert AGI, CVPR 2024, arXiv:2311.16502",
    licence="Apache-2.0",
    options=MmmuOptions,
    requirements=data_needed(DATASET, "mmmu"),
    primary=Primary(name="validation/Overall", low=0, high=1),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
