"""Registers Video-MME."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lossylens.hookspecs import hookimpl
from lossylens.spec import OPERATIONAL, path_if
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions

#: The reference evaluator's file, which it makes of the published table.
DATASET = Dataset(
    name="Video-MME",
    md5="85bdd91f9b29a99354c23b97ab7c113c",
    columns=(
        *("video", "video_path", "duration", "domain", "sub_category", "task_type"),
        *("candidates", "question", "answer"),
    ),
    optional=("subtitle_path",),
    films="video_path",
)

# What decides results are the frames themselves: see VideoMmeTask.fingerprint.
_FOLDER = {**OPERATIONAL, **path_if(bool)}


@dataclass
class VideoMmeOptions(TsvOptions):
    """Options of Video-MME.

    Attributes:
        frames: so many of each film, evenly spaced.
        fps: frames per second instead, from the first frame on; 0 for a fixed number.
        subtitles: whether those of the frames' moments are given.
        films: folder that ``video_path`` and ``subtitle_path`` begin in; empty for the
            one that holds the TSV file.
        pictures: folder with a folder of pictures for each ``video``, in place of film
            files; empty to have frames extracted from the films, once.
    """

    frames: int = 16
    fps: float = 0.0
    subtitles: bool = False
    films: str = field(default="", metadata=_FOLDER)
    pictures: str = field(default="", metadata=_FOLDER)


SPEC = TaskSpec(
    name="video-mme",
    aliases=("videomme",),
    summary="Multiple choice on short, medium and long films, frame by frame",
    factory="lossylens_task_video_mme.task:VideoMmeTask",
    category="video",
    citation="Fu et al., Video-MME: The First-Ever Comprehensive Evaluation Benchmark of "
    "Multi-modal LLMs in Video Analysis, CVPR 2025, arXiv:2405.21075",
    licence="Apache-2.0",
    options=VideoMmeOptions,
    requirements=data_needed(DATASET, "video-mme"),
    primary=Primary(name="overall/overall", low=0, high=1),
)


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register the task."""
    register(SPEC)
