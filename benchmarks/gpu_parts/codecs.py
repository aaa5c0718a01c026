"""Learned codecs: how fast, and whether other devices decode what one encodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from lossylens.codec import Codec
from lossylens.errors import BitstreamError, LossylensError
from lossylens.loading import Registered, import_object
from lossylens.plugins import Registry, load_registry
from lossylens.testing.pictures import picture
from lossylens.testing.weights import filled
from lossylens.toolkit.neural_codec import coding
from lossylens.toolkit.neural_codec.checkpoints import read_checkpoint, write_checkpoint
from lossylens.toolkit.neural_codec.codec import NeuralCodec
from lossylens.toolkit.neural_codec.compressai import RansDecoder, RansEncoder
from neural_codecs import KEEP, SCALE
from PIL.Image import Image
from torch.profiler import ProfilerActivity, profile

from gpu_parts.asked import free
from gpu_parts.card import Setting, timed
from gpu_parts.record import FAULT, Clock, Record

PART = "codecs"

NANO, RANDOM = "nano", "full size"

#: Pictures that are coded together.
BATCHES = (1, 4, 16)

#: Heights and widths of the pictures that go from device to device.
_SIZES = ((96, 128), (128, 96), (64, 64), (100, 75))


@dataclass(frozen=True)
class Weights:
    """A codec with weights that need no download.

    Attributes:
        name: of the codec, and which weights.
        build: makes the codec on a device, for batches of so many pictures.
        cross: pictures that are coded on one device and decoded on another.
    """

    name: str
    build: Callable[[str, int], Codec]
    cross: int


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
    device, folder, tiny = setting.device, setting.folder, setting.tiny
    registry = load_registry()
    found = learned(registry)
    if not found:
        record.skip(PART, "learned codecs", "all", "none is installed")
    makers = (_nano, _random)
    left = len(found) * len(makers)
    for codec in found:
        for make in makers:
            part = clock.share(left)
            left -= 1
            subject = f"{codec.spec.name} {NANO if make is _nano else RANDOM}"
            if part.left <= 0:
                record.skip(PART, subject, "all", "the time for this part is gone")
                continue
            with record.guard(PART, subject):
                try:
                    weights = make(registry, codec, folder, tiny)
                except LossylensError as error:
                    record.skip(PART, subject, "all", str(error))
                    continue
                _rates(record, part, weights, device, tiny=tiny)
                _across(record, part, weights, device)
            free(device)


def _nano(registry: Registry, found: Registered[Any], folder: Path, tiny: bool) -> Weights:
    """Return the codec with the small trained weights of its wheel."""
    del folder
    name = found.spec.name
    given = registry.options(found)
    if not hasattr(given, "variant"):
        raise LossylensError("it has no small weights of its own")
    level = found.spec.levels[-1]

    def build(device: str, batch: int) -> Codec:
        options = {"variant": NANO, "device": device, "batch_images": batch}
        return registry.build_codec(name, level, options)

    return Weights(f"{name} {NANO}", build, 8 if tiny else 200)


def _random(registry: Registry, found: Registered[Any], folder: Path, tiny: bool) -> Weights:
    """Return the codec in its published size, with weights that depend on names alone."""
    name, level = found.spec.name, found.spec.levels[-1]
    implementation = import_object(found.spec.factory)
    if not issubclass(implementation, NeuralCodec):
        raise LossylensError("random weights of full size are made for codecs with a hyperprior")
    codec = cast(NeuralCodec, implementation(level, registry.options(found)))
    config: Mapping[str, Any] = {}
    if tiny:
        # A CPU takes seconds for a picture at full size.
        small = implementation(level, registry.options(found, {"variant": NANO}))
        config = read_checkpoint(small.checkpoint).about["config"]
    network = codec.build(config)
    state = filled(codec.official_state(network), 0, KEEP, SCALE if name == "tcm" else {})
    about = {"codec": name, "level": level.name, "config": config}
    (folder / name).mkdir()
    write_checkpoint(folder / name / f"{level.name}.safetensors", state, about)
    del network, codec, state

    def build(device: str, batch: int) -> Codec:
        options = {
            "checkpoints": str(folder / name),
            "device": device,
            "batch_images": batch,
        }
        return registry.build_codec(name, level, options)

    return Weights(f"{name} {'random' if tiny else RANDOM}", build, 2 if tiny else 4)


def _rates(
    record: Record, clock: Clock, weights: Weights, device: torch.device, *, tiny: bool
) -> None:
    """Measure encodings and decodings per second for each size of batch."""
    height, width = (64, 96) if tiny else (512, 768)
    codec = weights.build(str(device), max(BATCHES))
    codec.decode(codec.encode(picture(height, width)))
    for batch in BATCHES[:2] if tiny else BATCHES:
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


def _across(record: Record, clock: Clock, weights: Weights, device: torch.device) -> None:
    """Decode on the CPU what the device encoded, and the other way round."""
    here, cpu = weights.build(str(device), 8), weights.build("cpu", 1)
    where = device.type
    counts = dict.fromkeys(("same bitstreams", "equal", "detected", "different"), 0)
    done = 0
    for first in range(0, weights.cross, 8):
        if clock.left <= 0:
            break
        numbers = range(first, min(first + 8, weights.cross))
        images = [picture(*_SIZES[number % len(_SIZES)], number) for number in numbers]
        ours, theirs = here.encode_batch(images), cpu.encode_batch(images)
        done += len(images)
        counts["same bitstreams"] += sum(a == b for a, b in zip(ours, theirs, strict=True))
        for bitstream in (*ours, *theirs):
            counts[_compared(here, cpu, bitstream)] += 1
    if not done:
        record.skip(PART, weights.name, f"{where} and cpu", "the time for this codec is gone")
        return
    note = (
        f"{done} pictures of {weights.cross}, encoded on {where} and on cpu, each decoded on both"
    )
    if where == "cpu":
        note += "; both are the CPU, so this shows nothing of a GPU"
    sides = 2 * done
    mark = FAULT if counts["different"] else ""
    measure_ = f"{where} and cpu decode alike"
    record.add(PART, weights.name, measure_, counts["equal"] / sides, mark=mark, note=note)
    note = f"and {counts['different']} different without a word"
    record.add(PART, weights.name, "differences detected", counts["detected"], note=note)
    share = counts["same bitstreams"] / done
    record.add(PART, weights.name, f"same bitstreams from {where} and cpu", share)


def _compared(here: Codec, cpu: Codec, bitstream: bytes) -> str:
    """Return whether both decode *bitstream* to the same picture, or one refuses it."""
    decoded: list[Image] = []
    for codec in (here, cpu):
        try:
            decoded.append(codec.decode(bitstream))
        except BitstreamError:
            return "detected"
    return "equal" if _pixels(decoded[0]) == _pixels(decoded[1]) else "different"


def _pixels(image: Image) -> tuple[tuple[int, int], bytes]:
    return image.size, image.tobytes()
