"""Adaptors: pictures per second in training, and the memory that it takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lossylens.adaptor import AdaptorSpec, Training, TrainingPicture, TrainingPoint
from lossylens.codec import CodecPoint
from lossylens.errors import LossylensError
from lossylens.registry.import_paths import import_object
from lossylens.registry.plugins import Registry, load_registry
from lossylens.testing.pictures import picture
from lossylens.vlm import VlmIdentity
from lossylens_toolkit.training.adaptor_training import AdaptorTraining

from gpu_parts.asked import free
from gpu_parts.card import Memory, Setting, synchronize
from gpu_parts.models import random_vlm
from gpu_parts.published import architectures
from gpu_parts.record import Clock, Record

PART = "adaptors"

#: Steps of which the first are not counted.
_WARM_UP, _STEPS = 2, 10

#: Codecs that are tried until one suits the method, with their options.
_CODECS: Sequence[tuple[str, dict[str, Any]]] = (("jpeg", {}), ("elic", {"variant": "nano"}))


class _Enough(Exception):  # noqa: N818 - it is no error
    """Enough steps were timed."""


def measure(record: Record, clock: Clock, setting: Setting) -> None:
    """Train each method that is installed for a few steps."""
    device, folder, tiny = setting.device, setting.folder, setting.tiny
    registry = load_registry()
    specs = [each.spec for each in registry.all("adaptor") if each.spec.trainer]
    if not specs:
        record.skip(PART, "adaptors", "training", "no method that is trained is installed")
        return
    if tiny:
        vlm, name = registry.build_vlm("nano", {"device": str(device)}), "nano"
    else:
        [model] = [each for each in architectures(tiny=False) if each.name == "qwen2.5-vl-3b"]
        vlm = random_vlm(model, folder / "adaptors vlm", device, torch.bfloat16)
        name = model.name
    for spec in specs:
        if clock.left <= 0:
            record.skip(PART, spec.name, "training", "the time for this part is gone")
            continue
        with record.guard(PART, spec.name):
            _method(record, device, registry, spec, vlm, name, folder / spec.name, tiny=tiny)
        free(device)


def _method(
    record: Record,
    device: torch.device,
    registry: Registry,
    spec: AdaptorSpec,
    vlm: Any,
    name: str,
    folder: Path,
    *,
    tiny: bool,
) -> None:
    options = _options(spec, device, tiny=tiny)
    refused = []
    for codec, given in _CODECS:
        try:
            point = _point(registry, codec, given)
            training = _training(vlm, name, point, folder / codec, tiny=tiny)
            memory, times = Memory(device), _steps(spec, options, training, device)
        except LossylensError as error:
            refused.append(f"{codec}: {error}")
            continue
        break
    else:
        record.skip(PART, spec.name, "training", "; ".join(refused))
        return
    if len(times) <= _WARM_UP + 1:
        reason = "its training does not go through AdaptorTraining.update"
        record.skip(PART, spec.name, "training", reason)
        return
    step = (times[-1] - times[_WARM_UP]) / (len(times) - 1 - _WARM_UP)
    told = ", ".join(f"{key} {value}" for key, value in sorted(_settings(options).items()))
    note = f"{name} random weights, {codec}; {told}; reading and coding of pictures included"
    if name == "nano":
        note = note.replace("nano random weights", "nano")
    record.add(PART, spec.name, "training", options.batch / step, "pictures/s", note=note)
    if memory.known:
        record.add(PART, spec.name, "memory at the peak", memory.peak / 1e9, "GB")
    else:
        reason = "the device does not count its memory"
        record.skip(PART, spec.name, "memory at the peak", reason)


def _options(spec: AdaptorSpec, device: torch.device, *, tiny: bool) -> Any:
    """Return the options of a method's training, of those that it has."""
    wanted = {
        "steps": 1000,
        "batch": 2 if tiny else 16,
        "checkpointing": True,
        "resolution": (112 if tiny else 448) ** 2,
        "mixed_precision": "bf16" if device.type == "cuda" else "no",
        "device": "auto" if device.type == "cuda" else "cpu",
        "workers": 0 if tiny else 8,
        "validate_every": 1000,
    }
    known = {each.name for each in fields(spec.training)}
    return spec.training(**{key: value for key, value in wanted.items() if key in known})


def _settings(options: Any) -> dict[str, Any]:
    names = ("batch", "variants", "checkpointing", "resolution", "mixed_precision", "workers")
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def _point(registry: Registry, name: str, given: dict[str, Any]) -> TrainingPoint:
    found = registry.find("codec", name)
    level, options = found.spec.levels[0], registry.options(found, given)
    codec = registry.build_codec(name, level, options)
    space = getattr(codec, "space", "") or ""
    point = CodecPoint(name, level.name, name, f"{name}-{level.name}", level.parameters, {}, space)
    return TrainingPoint(point, partial(import_object(found.spec.factory), level, options))


def _training(vlm: Any, name: str, point: TrainingPoint, folder: Path, *, tiny: bool) -> Training:
    side = 112 if tiny else 448
    count = 4 if tiny else 64
    folder.mkdir(parents=True)
    made = []
    for number in range(count + 2):
        path = folder / f"{number}.png"
        picture(side, side, number).save(path)
        made.append(TrainingPicture(path.name, path.read_bytes))
    identity = VlmIdentity(name, name, {"weights": "random"})
    pictures, validation = tuple(made[:count]), tuple(made[count:])
    return Training(vlm, identity, [point], pictures, validation, 0, folder / "out")


def _steps(
    spec: AdaptorSpec, options: Any, training: Training, device: torch.device
) -> list[float]:
    """Return when each step began; the training is broken off behind the last."""
    times: list[float] = []
    update = AdaptorTraining.update

    def timed_update(self: Any, batch: Any) -> Any:
        synchronize(device)
        times.append(time.perf_counter())
        if len(times) > _STEPS:
            raise _Enough
        return update(self, batch)

    trainer = import_object(spec.trainer)(options)
    with patch.object(AdaptorTraining, "update", timed_update), contextlib.suppress(_Enough):
        trainer.train(training)
    return times
