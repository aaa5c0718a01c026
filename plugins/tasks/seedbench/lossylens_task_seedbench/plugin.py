"""Registers SEEDBench."""

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
    name="SEEDBench",
    url="https://opencompass.openxlab.space/utils/benchmarks/SEEDBench/SEEDBench_IMG.tsv",
    md5="68017231464752261a2526d6ca3a10c0",
    columns=("question", "A", "B", "answer", "category"),
    optional=(*string.ascii_uppercase[2:], "split"),
    folder="SEEDBench_IMG",
)


@dataclass
class SeedbenchOptions(JudgedOptions):
    """Options of SEEDBench: ``data``, the path of SEEDBench_IMG.tsv, and ``judge``."""


SPEC = TaskSpec(
    name="seedbench",
    aliases=("seedbench-img",),
    summary="Multiple choice on nine abilities, about images",
    factory="lossylens_task_seedbench.task:SeedbenchTask",
    category="comprehensive",
    citation="Li et al., SEED-Bench: Benchmarking Multimodal LLMs with Generative "
    "Comprehension, CVPR 2024, arXiv:2307.16125",
    licence="Apache-2.0",
    options=SeedbenchOptions,
    requirements=data_needed(DATASET, "seedbench"),
    primary=Primary(name="none/Overall", low=0, high=1),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
