"""A run: plan, encode, answer, score.  Each step takes up where the store leaves off."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from lossylens.answering import answer_all, count_pending
from lossylens.collect import Asked, Material, Picture, collect
from lossylens.config import Config
from lossylens.encoding import encode_all, pending_encodings
from lossylens.manifest import make_manifest
from lossylens.plan import Plan, make_plan
from lossylens.progress import progress
from lossylens.scoring import score_all
from lossylens.store import Store, to_json


@dataclass(frozen=True)
class Cost:
    """What a run takes, and how much of it is in the store already.

    Attributes:
        images, questions: distinct ones.
        encodings, answers: of the whole grid.
        bitstream_bytes: of all bitstreams, if they average one bit per pixel.
        stored_encodings, stored_answers: of an earlier start.
        failed: how many of the stored answers are failures.
    """

    images: int
    questions: int
    encodings: int
    answers: int
    bitstream_bytes: int
    stored_encodings: int = 0
    stored_answers: int = 0
    failed: int = 0


def run(config: Config, say: Callable[[str], None], *, dry: bool = False) -> int:
    """Do a run, or the rest of one; return how many samples have failed.

    Args:
        config: what to run.
        say: is told the plan and its cost before anything is done.
        dry: do nothing after that, and write nothing.

    Raises:
        LossylensError: something is missing, or the store cannot be used.
        KeyboardInterrupt: what was finished is kept.
    """
    plan = make_plan(config)
    with ExitStack() as stack:
        store = _existing(config, dry=dry)
        ...


def _existing(config, *, dry): ...
