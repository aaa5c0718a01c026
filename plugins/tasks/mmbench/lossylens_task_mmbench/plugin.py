"""Registers MMBench."""

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
    name="MMBench",
    url="https://opencompass.openxlab.space/utils/benchmarks/MMBench/MMBench_DEV_EN.tsv",
    md5="b6caf1133a01c6bb705cf753bb527ed8",
    columns=("question", "A", "B", "answer", "category", "l2-category"),
    optional=("hint", *string.ascii_uppercase[2:], "split"),
)


@dataclass
class MmbenchOptions(JudgedOptions):
    """Options of MMBench: ``data``, the path of MMBench_DEV_EN.tsv, and ``judge``."""


SPEC = TaskSpec(
    name="mmbench",
    aliases=("mmbench-dev-en",),
    summary="Multiple choice on twenty abilities, each question asked with its options rotated",
    factory="lossylens_task_mmbench.task:MmbenchTask",
    category="comprehensive",
    citation="Liu et al., MMBench: Is Your Multi-modal Model an All-around Player?, ECCV 2024, "
    "arXiv:2307.06281",
    licence="Apache-2.0",
    options=MmbenchOptions,
    requirements=data_needed(DATASET, "mmbench"),
    primary=Primary(name="dev/Overall", low=0, high=1),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
