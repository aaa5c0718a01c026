"""Registers VQAv2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

#: The file; the reference evaluator publishes none.
DATASET = Dataset(
    name="VQAv2",
    columns=("question", "answer"),
    optional=("category", "question_type"),
    folder="VQAv2_VAL",
)


@dataclass
class Vqav2Options(TsvOptions):
    """Options of VQAv2: ``data``, the path of a file in the reference evaluator's form."""


SPEC = TaskSpec(
    name="vqav2",
    aliases=("vqav2-val",),
    summary="Questions about photographs, answered in a word or phrase",
    factory="lossylens_task_vqav2.task:Vqav2Task",
    category="visual question answering",
    citation="Goyal et al., Making the V in VQA Matter: Elevating the Role of Image "
    "Understanding in Visual Question Answering, CVPR 2017, arXiv:1612.00837",
    licence="Apache-2.0",
    options=Vqav2Options,
    requirements=data_needed(DATASET, "vqav2"),
    primary=Primary(name="Overall", low=0, high=100),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
