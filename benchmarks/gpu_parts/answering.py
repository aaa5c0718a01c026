"""Questions per second of models of published size, and what limits them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lossylens_toolkit.transformers_vlm.engine import Engine, Prompts
from lossylens_toolkit.transformers_vlm.memory import MemoryBudget
from lossylens_toolkit.transformers_vlm.vlm_testing import about
from torch.utils.flop_counter import FlopCounterMode

from gpu_parts.asked import (
    OneAtATime,
    asked,
    free,
    pictures,
    questions,
    same_first,
    together,
)
from gpu_parts.card import Memory, Setting, synchronize, timed
from gpu_parts.models import Architecture, random_vlm
from gpu_parts.published import architectures
from gpu_parts.record import FAULT, SLOW, Clock, Record

PART = "answering"

#: Tokens of an answer: yes or no, and the end.
SHORT = 2
#: Tokens of a caption.
LONG = 64
#: Questions about an image; POPE has 6 to 18 per image, MME 2, OCRBench 1.
COUNTS = (1, 4, 10, 18, 32)
#: Questions about an image where phases and the largest batch are looked at.
PHASES_AT = 10
#: Beyond this the largest batch is not looked for.
MOST_IMAGES = 256


@dataclass
class Phases:
    """Where the time goes: hooks on encoder and decoder, which wait for the device.

    Attributes:
        seconds: by phase.
        steps: how often the decoder was called for single tokens.
    """

    device: torch.device
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("vision", "prefill", "questions", "decoding"), 0.0)
    )
    steps: int = 0
    _started: float = 0.0
    _phase: str = ""

    def encoder(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        """Return *encode*, timed."""

        def timed_encode(pictures: Sequence[Any], _: Sequence[Any]) -> Any:
            seconds, found = timed(lambda: encode(pictures), self.device)
            self.seconds["vision"] += seconds
            return found

        return timed_encode

    def hooks(self, decoder: Any) -> list[Any]:
        """Time the calls of *decoder*; the handles remove that."""
        return [
            decoder.register_forward_pre_hook(self._before, with_kwargs=True),
            decoder.register_forward_hook(self._after),
        ]

    def _before(self, module: Any, arguments: Any, given: dict[str, Any]) -> None:
        del module, arguments
        if given.get("attention_mask") is None:
            self._phase = "prefill"
        else:
            self._phase = "questions" if self._phase == "prefill" else "decoding"
        self.steps += self._phase == "decoding"
        synchronize(self.device)
        self._started = time.perf_counter()

    def _after(self, module: Any, arguments: Any, found: Any) -> None:
        del module, arguments, found
        synchronize(self.device)
        self.seconds[self._phase] += time.perf_counter() - self._started


class Calls:
    """Calls of the decoder, by a hook that waits for nothing.

    Attributes:
        images: of the largest batch that was prefilled.
        steps: how often it was called at all; each time it reads its weights.
    """

    def __init__(self, decoder: Any) -> None:
        self.images = self.steps = 0
        self._handle = decoder.register_forward_pre_hook(self._before, with_kwargs=True)

    def _before(self, module: Any, arguments: Any, given: dict[str, Any]) -> None:
        del module, arguments
        self.steps += 1
        if given.get("attention_mask") is None:
            self.images = max(self.images, given["inputs_embeds"].shape[0])

    def remove(self) -> None:
        """Watch no longer."""
        self._handle.remove()


class Measuring:
    """The measurements of one model."""

    def __init__(self, record: Record, clock: Clock, name: str, vlm: Any, setting: Setting) -> None:
        self.record, self.clock, self.name, self.vlm = record, clock, name, vlm
        self.card, self.tiny = setting.rates, setting.tiny
        self.family = vlm.family
        self.device: torch.device = vlm.placement.devices[0]
        batch = 2 if self.tiny else vlm.batch_images
        made = pictures(2 * batch, tiny=self.tiny)
        self.images, self.others = made[:batch], made[batch:]
        self.single = self.contract = self.engine = 0.0

    def add(self, measure: str, value: float, unit: str = "", **more: Any) -> None:
        """Record a measurement of this model."""
        self.record.add(PART, self.name, measure, value, unit, **more)

    def all(self) -> None:
        """Measure everything, as long as there is time."""
        steps: list[tuple[str, Callable[[], None]]] = [
            ("one at a time", self.one_at_a_time),
            *((f"{count} questions per image", self._of(count)) for count in COUNTS),
            (f"answers of {LONG} tokens", self.long_answers),
            ("where the time goes", self.phases),
            ("preprocessing", self.preprocessing),
            ("largest batch", self.largest_batch),
        ]
        for measure, step in steps:
            if self.clock.left > 0:
                step()
            else:
                self.record.skip(PART, self.name, measure, "the time for this model is gone")

    def _of(self, count: int) -> Callable[[], None]:
        return lambda: self.batched(count)

    def one_at_a_time(self) -> None:
        """Measure the loop that the others are compared with, and first tokens against it."""
        alone = OneAtATime(self.vlm.whole, self.family)
        few = questions(4, SHORT)
        items = [(image, question) for image in self.images[:2] for question in few]
        alone(items[:1])
        seconds, expected = timed(lambda: alone(items), self.device)
        self.single = len(items) / seconds
        note = "transformers' generate, all anew for each question"
        self.add("one at a time", self.single, "questions/s", note=note)
        of_images = [asked(self.family, image, few) for image in self.images[:2]]
        found = together(Engine(self.family), of_images)
        distinct = len(set(map(tuple, expected)))
        dtype = str(self.vlm.placement.dtype).removeprefix("torch.")
        self.add(
            f"equal first tokens in {dtype}",
            same_first(found, expected) / len(expected),
            note=f"of {len(expected)} answers, {distinct} of them distinct; random weights have"
            " closer likelihoods than trained ones",
        )
        if any(len(answer) != SHORT for answer in [*found, *expected]):
            raise AssertionError(f"an answer has not {SHORT} tokens")

    def batched(self, count: int, tokens: int = SHORT) -> None:
        """Measure batches of images with *count* questions each, as a run asks them.

        While one is answered, the next is announced, so that it is preprocessed meanwhile.
        """
        batches = [
            [about(image, *questions(count, tokens)) for image in images]
            for images in (self.images, self.others)
        ]
        # Counting is the warm-up as well.
        with FlopCounterMode(display=False) as counter:
            self.vlm.answer(batches[0])
        self._announce(batches[0])

        def work() -> list[Any]:
            answers = []
            for now, then in (batches, batches[::-1]):
                self._announce(then)
                answers += self.vlm.answer(now)
            return answers

        calls, memory = Calls(self.family.decoder), Memory(self.device)
        try:
            seconds, answers = timed(work, self.device)
        finally:
            calls.remove()
        given = [answer for group in answers for answer in group]
        if any(answer.usage["output_tokens"] != tokens for answer in given):
            raise AssertionError(f"an answer has not {tokens} tokens")
        name = f"{count} questions per image" + ("" if tokens == SHORT else f", {tokens} tokens")
        rate = len(given) / seconds
        if count == PHASES_AT:
            self.contract = seconds / len(answers)
        note = f"batches of {calls.images} images at most"
        if self.single and tokens == SHORT:
            note = f"{rate / self.single:.1f} times one at a time; {note}"
        if memory.known:
            note += f"; {memory.peak / 1e9:.1f} GB at the peak"
        self.add(name, rate, "questions/s", note=note)
        self._share(name, 2 * counter.get_total_flops(), calls.steps, seconds)
        if memory.failures:
            self.add(f"{name}: memory ran out", memory.failures, "times", mark=FAULT)

    def _announce(self, batch: Sequence[Any]) -> None:
        for item in batch:
            self.vlm.expect(item)

    def _share(self, name: str, flops: int, steps: int, seconds: float) -> None:
        """Record the share of the time in which the device would do nothing else."""
        measure_ = f"{name}: of the roofline"
        if self.card is None:
            self.record.skip(PART, self.name, measure_, "the rates of the device are not known")
            return
        computing = flops / self.card.product
        parts = (self.family.decoder, self.family.head)
        size = sum(each.numel() * each.element_size() for p in parts for each in p.parameters())
        reading = steps * size / self.card.copy
        # A tiny model is all overhead.
        mark = SLOW if (computing + reading) / seconds < 0.5 and not self.tiny else ""
        note = (
            f"{flops / 1e12:.3g} TFLOP computed; with {steps} times the decoder's weights read"
            f" {(computing + reading) / seconds:.2g}"
        )
        self.add(measure_, computing / seconds, mark=mark, note=note)

    def long_answers(self) -> None:
        """Measure captions."""
        self.batched(1, 8 if self.tiny else LONG)

    def phases(self) -> None:
        """Measure where the time goes; images are preprocessed before, and nothing overlaps."""
        phases = Phases(self.device)
        items = [asked(self.family, image, questions(PHASES_AT, SHORT)) for image in self.images]
        engine = Engine(self.family, phases.encoder(self.family.tower.encode))
        handles = phases.hooks(self.family.decoder)
        try:
            total, _ = timed(lambda: together(engine, items), self.device)
        finally:
            for handle in handles:
                handle.remove()
        self.engine = total / len(items)
        found = {**phases.seconds, "rest": total - sum(phases.seconds.values())}
        notes = {
            "prefill": "what the questions about an image share",
            "questions": "what they do not share",
            "decoding": f"{phases.steps} steps",
            "rest": "embedding, masks, choice of tokens",
        }
        for phase, seconds in found.items():
            note = notes.get(phase, "")
            self.add(f"time: {phase}", 1e3 * seconds / len(items), "ms/image", note=note)

    def preprocessing(self) -> None:
        """Measure preprocessing on one thread, against the time of an image on the device."""
        detail = self.family.detail(questions(1, SHORT)[0], 1)
        started = time.perf_counter()
        for image in self.images[:8]:
            self.family.preprocess(image, detail)
        seconds = (time.perf_counter() - started) / len(self.images[:8])
        workers = self.vlm.options.preprocess_workers
        workers = workers if workers >= 0 else 4 if self.device.type == "cuda" else 0
        note = f"one process; a run has {workers or 'none'} for it"
        self.add("time: preprocessing", 1e3 * seconds, "ms/image", note=note)
        if not (self.contract and self.engine):
            return
        # What of it is not hidden behind the model.
        ratio = self.contract / self.engine
        mark = SLOW if ratio > 1.25 and not self.tiny else ""
        note = f"{PHASES_AT} questions per image, as a run asks, over the model alone"
        self.add("time: all", ratio, "times", mark=mark, note=note)

    def largest_batch(self) -> None:
        """See whether the largest batch that ``Budget`` admits fits, and what it really takes."""
        free(self.device)
        one = asked(self.family, self.images[0], questions(PHASES_AT, SHORT))
        budget = MemoryBudget(self.family)
        most = 8 if self.tiny else MOST_IMAGES
        count = 1
        while count < most and budget.allows(_copies(one, count + 1)):
            count += 1
        group = _copies(one, count)
        memory = Memory(self.device)
        need = budget.need(group)
        answers = together(Engine(self.family, budget=budget), group)
        limit = ", where the search ends" if count == most else ""
        note = f"of {PHASES_AT} questions each{limit}"
        self.add("largest batch", count, "images", note=note)
        if len(answers) != PHASES_AT * count or any(len(answer) != SHORT for answer in answers):
            raise AssertionError("the largest batch was not answered")
        if not memory.known:
            reason = "the device does not count its memory"
            self.record.skip(PART, self.name, "memory of the largest batch", reason)
            return
        taken = memory.peak - memory.weights
        note = f"{taken / 1e9:.3g} GB taken, {need / 1e9:.3g} GB estimated"
        mark = FAULT if memory.failures else ""
        self.add("memory of the largest batch", taken / need, mark=mark, note=note)


def _copies(item: Prompts, count: int) -> list[Prompts]:
    """Return items that count as about different images."""
    [shown] = item.shown
    assert shown.picture is not None
    return [
        replace(item, shown=(replace(shown, picture=replace(shown.picture)),)) for _ in range(count)
    ]


def measure(record: Record, clock: Clock, setting: Setting) -> None:
    """Measure all models in turn."""
    models = architectures(tiny=setting.tiny)
    for number, architecture in enumerate(models):
        with record.guard(PART, architecture.name):
            part = clock.share(len(models) - number)
            _measure_model(record, part, setting, architecture)
        free(setting.device)


def _measure_model(
    record: Record, clock: Clock, setting: Setting, architecture: Architecture
) -> None:
    device = setting.device
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    vlm = random_vlm(architecture, setting.folder / architecture.name, device, dtype)
    seconds, _ = timed(lambda: vlm.family, device)
    size = sum(each.numel() for each in vlm.whole.parameters())
    note = f"made in {seconds:.1f} s, {str(dtype).removeprefix('torch.')}"
    record.add(PART, architecture.name, "parameters", size / 1e6, "million", note=note)
    Measuring(record, clock, architecture.name, vlm, setting).all()
