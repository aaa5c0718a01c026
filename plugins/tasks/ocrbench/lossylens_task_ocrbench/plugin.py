"""Registers OCRBench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

#: The published file.
DATASET = Dataset(
    name="OCRBench",
    url="https://opencompass.openxlab.space/utils/VLMEval/OCRBench.tsv",
    md5="e953d98a987cc6e26ef717b61260b778",
    columns=("question", "answer", "category"),
)


@dataclass
class OcrbenchOptions(TsvOptions):
    """Options of OCRBench: ``data``, the path of OCRBench.tsv."""


SPEC = TaskSpec(
    name="ocrbench",
    summary="Reading text, documents, forms and formulas in images",
    factory="lossylens_task_ocrbench.task:OcrbenchTask",
    category="text recognition",
    citation="Liu et al., OCRBench: On the Hidden Mystery of OCR in Large Multimodal Models, "
    "2024, arXiv:2305.07895",
    licence="Apache-2.0",
    options=OcrbenchOptions,
    requirements=data_needed(DATASET, "ocrbench"),
    primary=Primary(name="Final Score", low=0, high=1000),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
