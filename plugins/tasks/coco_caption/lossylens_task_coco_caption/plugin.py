"""Registers COCO Caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

#: The published file.
DATASET = Dataset(
    name="COCO Caption",
    url="https://opencompass.openxlab.space/utils/VLMEval/COCO_VAL.tsv",
    md5="72a5079dead060269ac222c5aa5128af",
    columns=("answer",),
    optional=("question", "category"),
    folder="COCO",
)


@dataclass
class CocoCaptionOptions(TsvOptions):
    """Options of COCO Caption: ``data``, the path of COCO_VAL.tsv."""


SPEC = TaskSpec(
    name="coco-caption",
    aliases=("coco-val",),
    summary="Describing images, compared with reference captions",
    factory="lossylens_task_coco_caption.task:CocoCaptionTask",
    category="captioning",
    citation="Chen et al., Microsoft COCO Captions: Data Collection and Evaluation Server, "
    "2015, arXiv:1504.00325",
    licence="Apache-2.0",
    options=CocoCaptionOptions,
    requirements=data_needed(DATASET, "coco-caption"),
    primary=Primary(name="CIDEr", low=0, high=1000),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
