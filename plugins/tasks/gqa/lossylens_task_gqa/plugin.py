"""Registers GQA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

#: The published file.
DATASET = Dataset(
    name="GQA",
    url="https://opencompass.openxlab.space/utils/VLMEval/GQA_TestDev_Balanced.tsv",
    md5="99b62f22e224d9b2f32dcbe41359d1c9",
    columns=("question", "answer", "category"),
    folder="GQA_TestDev_Balanced",
)


@dataclass
class GqaOptions(TsvOptions):
    """Options of GQA: ``data``, the path of GQA_TestDev_Balanced.tsv."""


SPEC = TaskSpec(
    name="gqa",
    aliases=("gqa-testdev-balanced",),
    summary="Compositional questions about scenes, answered in a word or phrase",
    factory="lossylens_task_gqa.task:GqaTask",
    category="visual question answering",
    citation="Hudson and Manning, GQA: A New Dataset for Real-World Visual Reasoning and "
    "Compositional Question Answering, CVPR 2019, arXiv:1902.09506",
    licence="Apache-2.0",
    options=GqaOptions,
    requirements=data_needed(DATASET, "gqa"),
    primary=Primary(name="Overall", low=0, high=100),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
