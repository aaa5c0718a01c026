"""Learned codecs: how fast, and whether other devices decode what one encodes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from lossylens.codec import Codec
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.registry.import_paths import import_object
from lossylens.registry.plugin_info import Registered
from lossylens.registry.plugins import Registry, load_registry
from lossylens.testing.pictures import picture
from lossylens_toolkit.neural_codec import coding
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint, write_checkpoint
from lossylens_toolkit.neural_codec.compressai import RansDecoder, RansEncoder
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from PIL.Image import Image
from torch import nn
from torch.profiler import ProfilerActivity, profile

from gpu_parts.asked import free
from gpu_parts.card import Setting, timed
from gpu_parts.record import FAULT, Clock, Record

PART = "codecs"

NANO, RANDOM = "nano", "full size"

#: Pictures that are coded together.
BATCHES = (1, 4, 16)

#: Pictures that the device codes at once when they go from device to device.
_AT_ONCE = 8

#: Heights and widths of the pictures that go from device to device.
_SIZES = ((96, 128), (128, 96), (64, 64), (100, 75))


#: Standard deviation of latents, and how often it is drawn near.
_SPREAD, _ROUNDS = 0.3, 3


@dataclass(frozen=True)
class Weights:
    """A codec with weights that need no download; picklable.

    Attributes:
        name: of the codec, and which weights.
        codec: its name.
        level: of it.
        options: beside device and batch.
        cross: pictures that are coded on one device and decoded on another.
    """

    name: str
    codec: str
    level: str
    options: tuple[tuple[str, str], ...]
    cross: int

    def build(self, device: str, batch: int) -> Codec:
        """Return the codec on a device, for batches of so many pictures."""
        registry = _registry()
        found = registry.find("codec", self.codec)
        wanted = {**dict(self.options), "device": device, "batch_images": batch}
        known = vars(registry.options(found))
        options = {name: value for name, value in wanted.items() if name in known}
        return registry.build_codec(self.codec, self.level, options)


@cache
def _registry() -> Registry:
    return load_registry()


class Coding:
    """Seconds in the range coder, which runs on the CPU."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def watched(self) -> Iterator[Coding]:
        """Time the range coder of the toolkit's codecs while inside."""
        with (
            patch.object(coding, "RansEncoder", self._timed(RansEncoder)),
            patch.object(coding, "RansDecoder", self._timed(RansDecoder)),
        ):
            yield self

    def _timed(self, base: Any) -> Any:
        watch = self

        class Timed:
            def __init__(self) -> None:
                self._coder = base()

            def __getattr__(self, name: str) -> Any:
                method = getattr(self._coder, name)

                def call(*arguments: Any) -> Any:
                    started = time.perf_counter()
                    try:
                        return method(*arguments)
                    finally:
                        watch.seconds += time.perf_counter() - started

                return call

        return Timed


def learned(registry: Registry) -> list[Registered[Any]]:
    """Return the learned codecs that are installed."""
    return [each for each in registry.all("codec") if each.spec.category == "learned"]


def measure(record: Record, clock: Clock, setting: Setting) -> None:
    """Measure each learned codec, with small trained weights and with large random ones."""
    found = learned(_registry())
    if not found:
        record.skip(PART, "learned codecs", "all", "none is installed")
    workers = 1 if setting.tiny else max(1, min(8, (os.cpu_count() or 1) - 2))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        makers = [(codec, make) for codec in found for make in (_nano, _random)]
        for number, (codec, make) in enumerate(makers):
            part = clock.share(len(makers) - number)
            subject = f"{codec.spec.name} {NANO if make is _nano else RANDOM}"
            if part.left <= 0:
                record.skip(PART, subject, "all", "the time for this part is gone")
                continue
            with record.guard(PART, subject):
                try:
                    weights = make(codec, setting)
                    _rates(record, part, weights, setting)
                    _across(record, part, weights, setting.device, pool)
                except (ConfigError, RequirementError) as error:
                    record.skip(PART, subject, "all", " ".join(str(error).split()))
            free(setting.device)


def _nano(found: Registered[Any], setting: Setting) -> Weights:
    """Return the codec with the small trained weights of its wheel."""
    name = found.spec.name
    if not hasattr(_registry().options(found), "variant"):
        raise RequirementError("it has no small weights of its own")
    level = found.spec.levels[-1].name
    return Weights(f"{name} {NANO}", name, level, (("variant", NANO),), 8 if setting.tiny else 200)


def _random(found: Registered[Any], setting: Setting) -> Weights:
    """Return the codec in its published size, with weights as they are before training."""
    name, level = found.spec.name, found.spec.levels[-1]
    implementation = import_object(found.spec.factory)
    if not issubclass(implementation, NeuralCodec):
        raise RequirementError("random weights of full size are made for codecs with a hyperprior")
    codec = cast(NeuralCodec, implementation(level, _registry().options(found)))
    config: Mapping[str, Any] = {}
    if setting.tiny:
        # A CPU takes seconds for a picture at full size.
        small = implementation(level, _registry().options(found, {"variant": NANO}))
        config = read_checkpoint(small.checkpoint).about["config"]
    torch.manual_seed(0)
    network = codec.build(config)
    _quieten(network)
    state = dict(codec.official_state(network))
    about = {"codec": name, "level": level.name, "config": config}
    (setting.folder / name).mkdir()
    write_checkpoint(setting.folder / name / f"{level.name}.safetensors", state, about)
    subject = f"{name} {'random' if setting.tiny else RANDOM}"
    options = (("checkpoints", str(setting.folder / name)),)
    return Weights(subject, name, level.name, options, 2 if setting.tiny else 4)


@torch.no_grad()
def _quieten(network: Any) -> None:
    """Scale what the analysis transform ends with, so that latents are neither all zero nor large.

    Untrained, the probability model expects hardly anything but zeros.
    """
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    last = [each for each in network.g_a.modules() if isinstance(each, kinds)][-1]
    x = torch.from_numpy(np.asarray(picture(128, 128)) / np.float32(255)).permute(2, 0, 1)[None]
    for _ in range(_ROUNDS):
        factor = float(_SPREAD / network.g_a(x).std())
        for parameter in last.parameters():
            parameter.mul_(factor)


def _rates(record: Record, clock: Clock, weights: Weights, setting: Setting) -> None:
    """Measure encodings and decodings per second for each size of batch."""
    device = setting.device
    height, width = (64, 96) if setting.tiny else (512, 768)
    codec = weights.build(str(device), max(BATCHES))
    codec.decode(codec.encode(picture(height, width)))
    for batch in BATCHES[:2] if setting.tiny else BATCHES:
        if clock.left <= 0:
            record.skip(PART, weights.name, f"batch {batch}", "the time for this codec is gone")
            continue
        images = [picture(height, width, seed) for seed in range(batch)]
        bitstreams = codec.encode_batch(images)
        bpp = 8 * sum(map(len, bitstreams)) / (batch * height * width)
        for what, work in (
            ("encoding", lambda: codec.encode_batch(images)),  # noqa: B023 - called at once
            ("decoding", lambda: codec.decode_batch(bitstreams)),  # noqa: B023
        ):
            with Coding().watched() as coder:
                seconds, _ = timed(work, device)
            note = f"{height}x{width}, {bpp:.2f} bpp"
            if coder.seconds:
                note += f", range coder {coder.seconds / seconds:.1%} of the time"
            busy = _busy(work, device)
            if busy is not None:
                note += f", GPU busy {busy / seconds:.0%}"
            rate = batch / seconds
            record.add(PART, weights.name, f"{what}, batch {batch}", rate, "pictures/s", note=note)


def _busy(work: Callable[[], Any], device: torch.device) -> float | None:
    """Return the seconds that a GPU computes for *work*; None for a CPU."""
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        timed(work, device)
    return sum(each.self_device_time_total for each in profiled.key_averages()) / 1e6


def _across(
    record: Record,
    clock: Clock,
    weights: Weights,
    device: torch.device,
    pool: ProcessPoolExecutor,
) -> None:
    """Decode on the CPU what the device encoded, and the other way round.

    Processes of one thread do what the CPU does.
    """
    here, where = weights.build(str(device), _AT_ONCE), device.type
    counts = dict.fromkeys(("same bitstreams", "equal", "detected", "different"), 0)
    done = 0
    for first in range(0, weights.cross, 5 * _AT_ONCE):
        if clock.left <= 0:
            break
        numbers = range(first, min(first + 5 * _AT_ONCE, weights.cross))
        coding_there = [pool.submit(encoded_on_cpu, weights, number) for number in numbers]
        images = [_picture(number) for number in numbers]
        ours = here.encode_batch(images)
        theirs = [each.result() for each in coding_there]
        bitstreams = [*ours, *theirs]
        decoding_there = [pool.submit(decoded_on_cpu, weights, each) for each in bitstreams]
        found = [decoded(here, each) for each in bitstreams]
        for other, own in zip(decoding_there, found, strict=True):
            counts[compared(own, other.result())] += 1
        counts["same bitstreams"] += sum(a == b for a, b in zip(ours, theirs, strict=True))
        done += len(images)
    if not done:
        record.skip(PART, weights.name, f"{where} and cpu", "the time for this codec is gone")
        return
    note = f"{done} pictures of {weights.cross}, encoded on either, each decoded on both"
    if where == "cpu":
        note += "; both are the CPU, so this shows nothing of a GPU"
    mark = FAULT if counts["different"] else ""
    measure_, share = f"{where} and cpu decode alike", counts["equal"] / (2 * done)
    record.add(PART, weights.name, measure_, share, mark=mark, note=note)
    note = f"and {counts['different']} different without a word"
    record.add(PART, weights.name, "differences detected", counts["detected"], note=note)
    share = counts["same bitstreams"] / done
    record.add(PART, weights.name, f"same bitstreams from {where} and cpu", share)


def _picture(number: int) -> Image:
    return picture(*_SIZES[number % len(_SIZES)], number)


@cache
def _on_cpu(weights: Weights) -> Codec:
    return weights.build("cpu", 1)


def encoded_on_cpu(weights: Weights, number: int) -> bytes:
    """Return a picture's bitstream; called in another process."""
    return _on_cpu(weights).encode(_picture(number))


def decoded_on_cpu(weights: Weights, bitstream: bytes) -> str:
    """Return what :func:`decoded` does; called in another process."""
    return decoded(_on_cpu(weights), bitstream)


def decoded(codec: Codec, bitstream: bytes) -> str:
    """Return the hash of a decoded picture, ``""`` where the codec refuses the bitstream."""
    try:
        image = codec.decode(bitstream)
    except BitstreamError:
        return ""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def compared(found: str, other: str) -> str:
    """Return whether two that decoded found the same picture, or one refused."""
    if not (found and other):
        return "detected"
    return "equal" if found == other else "different"
