"""Registers RefCOCO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

from lossylens_task_refcoco.splits import split_of

#: The published file.
DATASET = Dataset(
    name="RefCOCO",
    url="https://huggingface.co/datasets/mjuicem/RefCOCO-VLMEvalKit/resolve/main/RefCOCO.tsv",
    md5="f50ca356638ddac89b309311fd876a5d",
    columns=("question",),
    optional=(
        *("split", "category", "width", "height"),
        *("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "x1", "y1", "x2", "y2", "answer", "bbox"),
    ),
    part=split_of,
)


@dataclass
class RefcocoOptions(TsvOptions):
    """Options of RefCOCO.

    Attributes:
        units: what the numbers in predictions of another program are, for scores beside the
            reference evaluator's, which guesses it: fractions, thousandths or pixels of the
            picture, fractions of the picture padded to a square (LLaVA-1.5), or pixels of the
            picture resized (Qwen2.5-VL).  In a run, answers are fractions.
        min_pixels: fewest pixels of a resized picture.
        max_pixels: most pixels of a resized picture.
    """

    units: Literal["guessed", "fractions", "thousandths", "pixels", "square", "resized"] = "guessed"
    min_pixels: int = 1280 * 28 * 28
    max_pixels: int = 16384 * 28 * 28


SPEC = TaskSpec(
    name="refcoco",
    summary="Where is what an expression describes? A box (RefCOCO, RefCOCO+, RefCOCOg)",
    factory="lossylens_task_refcoco.task:RefcocoTask",
    category="grounding",
    citation="Kazemzadeh et al., ReferItGame, EMNLP 2014; Yu et al., Modeling Context in "
    "Referring Expressions, ECCV 2016, arXiv:1608.00272; Mao et al., Generation and Comprehension "
    "of Unambiguous Object Descriptions, CVPR 2016, arXiv:1511.02283",
    licence="Apache-2.0",
    options=RefcocoOptions,
    requirements=data_needed(DATASET, "refcoco"),
    primary=Primary(name="Average/Precision@1", low=0, high=100),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
