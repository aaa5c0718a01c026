"""Whether answers are the same in batches as one by one, and on the device as on the CPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.transformers_vlm.engine import Engine
from lossylens_toolkit.transformers_vlm.vlm_testing import about

from gpu_parts.asked import OneAtATime, asked, free, pictures, questions, same, together
from gpu_parts.card import Setting, timed
from gpu_parts.models import Architecture, random_vlm
from gpu_parts.published import architectures
from gpu_parts.record import FAULT, Clock, Record

PART = "equality"

#: Of an answer: random models answer anything, so that later tokens differ if an early one does.
TOKENS = 4


def measure(record: Record, clock: Clock, setting: Setting) -> None:
    """Compare nano on two devices, and each model in float32 with transformers' ``generate``."""
    device, folder, tiny = setting.device, setting.folder, setting.tiny
    with record.guard(PART, "nano"):
        _nano(record, device, images=3 if tiny else 24)
    for architecture in architectures(tiny=tiny):
        measure_ = "batched as single, float32"
        if clock.left <= 0:
            record.skip(PART, architecture.name, measure_, "the time for this part is gone")
            continue
        need = _bytes(architecture, folder / f"{architecture.name} meta")
        if device.type == "cuda" and need > 0.7 * torch.cuda.mem_get_info(device)[0]:
            reason = f"{need / 1e9:.0f} GB of weights do not fit"
            record.skip(PART, architecture.name, measure_, reason)
            continue
        with record.guard(PART, architecture.name):
            _float32(record, device, folder, architecture, tiny=tiny)
        free(device)


def _bytes(architecture: Architecture, folder: Path) -> int:
    """Return the bytes of the weights in float32."""
    folder.mkdir()
    with torch.device("meta"):
        model = architecture.vlm.model_class(architecture.make(folder))
    return 4 * sum(each.numel() for each in model.parameters())


def _float32(
    record: Record, device: torch.device, folder: Path, architecture: Architecture, *, tiny: bool
) -> None:
    vlm = random_vlm(architecture, folder / f"{architecture.name} float32", device, torch.float32)
    family = vlm.family
    images, few = pictures(2, tiny=tiny), questions(4, TOKENS)
    found = together(Engine(family), [asked(family, image, few) for image in images])
    alone = OneAtATime(vlm.whole, family)
    expected = alone([(image, question) for image in images for question in few])
    equal, distinct = same(found, expected), len(set(map(tuple, expected)))
    record.add(
        PART,
        architecture.name,
        "batched as single, float32",
        equal / len(expected),
        mark="" if equal == len(expected) else FAULT,
        note=f"of {len(expected)} answers of {TOKENS} tokens, {distinct} of them distinct",
    )


def _nano(record: Record, device: torch.device, images: int) -> None:
    """Ask nano, which is trained, about scenes: as the device and as the CPU compute it."""
    try:
        scenes = _scenes(images)
    except ImportError as error:
        record.skip(PART, "nano", f"{device.type} as cpu", f"{error}; the scenes need it")
        return
    registry = load_registry()
    answers = []
    for where in (str(device), "cpu"):
        vlm = registry.build_vlm("nano", {"device": where, "dtype": "float32"})
        vlm.answer(scenes[:1])
        seconds, given = timed(partial(vlm.answer, scenes), device)
        answers.append([answer.text for group in given for answer in group])
        rate = len(answers[-1]) / seconds
        record.add(PART, "nano", f"on {where}", rate, "questions/s", note="float32")
    found, expected = answers
    equal = sum(a == b for a, b in zip(found, expected, strict=True))
    note = f"of {len(expected)} answers, {len(set(expected))} of them distinct"
    if device.type == "cpu":
        note += "; both on the CPU, so this shows nothing of a GPU"
    mark = "" if equal == len(expected) else FAULT
    share = equal / len(expected)
    record.add(PART, "nano", f"{device.type} as cpu", share, mark=mark, note=note)


def _scenes(images: int) -> list[Any]:
    """Return scenes with questions about what is in them and what they show."""
    from lossylens_task_scenes.questions.captioning import CAPTION_QUESTION
    from lossylens_task_scenes.questions.existence import existence_questions
    from lossylens_task_scenes.render import render
    from lossylens_task_scenes.scene import make_scene

    caption = Question(QuestionKind.CAPTION, CAPTION_QUESTION, max_new_tokens=48)
    found = []
    for number in range(images):
        scene = make_scene(5, number)
        existing = existence_questions(scene, np.random.default_rng(number), 6)
        yes_or_no = [Question(QuestionKind.YES_NO, each.text) for each in existing]
        found.append(about(render(scene), *yes_or_no, caption))
    return found
