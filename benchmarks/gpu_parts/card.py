"""What the device can do at all, and how it is asked for time and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_parts.record import Clock, Record

PART = "card"


@dataclass(frozen=True)
class Card:
    """Measured rates of a device.

    Attributes:
        product: floating-point operations per second of a large product in bfloat16.
        copy: bytes per second that a copy reads and writes.
    """

    product: float
    copy: float


@dataclass
class Setting:
    """Where a part measures.

    Attributes:
        device: that is measured.
        folder: empty, of the part.
        tiny: whether models are tiny and pictures few.
        rates: of the device; None if they were not measured.
    """

    device: torch.device
    folder: Path
    tiny: bool
    rates: Card | None = None


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return the seconds that *work* takes on *device*, and what it returns."""
    synchronize(device)
    started = time.perf_counter()
    found = work()
    synchronize(device)
    return time.perf_counter() - started, found


class Memory:
    """Peak memory on the device, and allocations that it could not serve, from now on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = self._failed()
        self.weights = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.weights = torch.cuda.memory_allocated(device)

    @property
    def known(self) -> bool:
        """Whether the device counts its memory; a CPU does not."""
        return self._device.type == "cuda"

    @property
    def peak(self) -> int:
        """Most bytes that were held at a time."""
        return torch.cuda.max_memory_allocated(self._device) if self.known else 0

    @property
    def failures(self) -> int:
        """How often memory ran out."""
        return self._failed() - self._before

    def _failed(self) -> int:
        if self._device.type != "cuda":
            return 0
        return int(torch.cuda.memory_stats(self._device).get("num_ooms", 0))


def measure(record: Record, clock: Clock, setting: Setting) -> None:
    """Measure product and copy."""
    device, tiny = setting.device, setting.tiny
    del clock  # It takes a second or two, and everything else needs it.
    side = 512 if tiny else 8192
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    right = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    product = 2 * side**3 / _seconds(lambda: left @ right, device)
    size = 2**22 if tiny else 2**31
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = 2 * size / _seconds(lambda: target.copy_(source), device)
    note = f"{side}x{side}x{side}, random numbers"
    record.add(PART, "bfloat16", "product", product / 1e12, "TFLOP/s", note=note)
    record.add(PART, "memory", "copy", copy / 1e9, "GB/s", note="bytes read and written")
    setting.rates = Card(product, copy)


def _seconds(work: Callable[[], Any], device: torch.device, calls: int = 10) -> float:
    """Return the seconds of a call: the median of three times *calls* calls, after three."""
    for _ in range(3):
        work()

    def several() -> None:
        for _ in range(calls):
            work()

    return statistics.median(timed(several, device)[0] for _ in range(3)) / calls
