"""Questions per second: batched answering against the reference evaluator's loop.

Model, data, machine and process are the same; the two ways take turns, and the figure is
the median of the ratios of their rates.  "One at a time" does for every question what the
reference evaluator does: read the image file, scale it, fill in the chat template,
preprocess, call ``generate``, decode.  The batched way reads each image once and goes
through the VLM contract, as a run does.

    python benchmarks/evaluation.py [--shape pope gqa ...] [--threads 2] [--rounds 3]
    python benchmarks/evaluation.py --gpu

The model is a random one of the Qwen2.5-VL architecture.  On a CPU it has about 20
million parameters and 256 visual tokens per image, in fp32; both ways must give the same
answers.  There nearly all time goes into arithmetic, so the table also says by how much the
batched way has less of it ("arithmetic"): what sharing images and prefixes alone would give.
A ratio above that is won by doing the same arithmetic better, and where every image has one
short question there is nothing to share.  ``--cpu-time`` measures processor time instead of
time, for machines that do other work too; it hides what a second core is good for.

With ``--gpu`` the model has the shape of Qwen2.5-VL-3B, in bf16, and the share of the
roofline that is reached is printed too: the time that the FLOPs of vision and prefill and
the bytes of each decoding step would take at the data sheet's peak rates, over the time
that it took.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lossylens.codec import SOURCE
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind
from lossylens_toolkit.transformers_vlm.families.qwen2_5_vl import SYSTEM, Qwen25Vlm
from lossylens_toolkit.transformers_vlm.vlm_options import Qwen25Options
from lossylens_toolkit.transformers_vlm.vlm_testing import blocks, generate_alone, save_qwen2_5_vl
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

Items = Sequence[tuple[bytes, tuple[Question, ...]]]


@dataclass(frozen=True)
class Shape:
    """Data like a benchmark's.

    Attributes:
        images: how many are asked about.
        questions: per image.
        asked: tokens of a question.
        answered: tokens of an answer, the one that ends it included.
    """

    images: int
    questions: int
    asked: int
    answered: int


#: As in the published files: POPE has 5127 distinct questions about 500 images (9000 if
#: each is asked once for every split that it is in), GQA 12578 about 398, MMBench 4329
#: about at most 1164, because each is asked once for every order of its options.  OCRBench
#: and COCO captions have one question per image, with short and with long answers.
SHAPES = {
    "pope": Shape(4, 10, 14, 2),
    "pope-splits": Shape(2, 18, 14, 2),
    "gqa": Shape(2, 32, 20, 2),
    "mmbench": Shape(4, 4, 60, 2),
    "ocrbench": Shape(8, 1, 40, 4),
    "coco": Shape(16, 1, 40, 48),
}

#: As Qwen2.5-VL has it, for one image.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

#: 19 million parameters; 448x448 pixels are 1024 patches and 256 visual tokens.
MID_TEXT = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
}
MID_VISION = {
    "depth": 8,
    "hidden_size": 320,
    "num_heads": 8,
    "intermediate_size": 860,
    "fullatt_block_indexes": [3, 7],
    "window_size": 112,
}
MID_PIXELS = (448 * 448, 448 * 448)

#: The shape of Qwen2.5-VL-3B, at the evaluator's resolution.
LARGE_TEXT = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
LARGE_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
}
LARGE_PIXELS = (1280 * 28 * 28, 16384 * 28 * 28)

#: Dense bf16 FLOP/s and bytes/s of data sheets, by what the device's name contains.
PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12)}


def data(shape: Shape) -> Items:
    """Return JPEG files with their questions."""
    rng = np.random.default_rng(5)
    found = []
    for number in range(shape.images):
        buffer = io.BytesIO()
        blocks(512, 512, number).save(buffer, "JPEG")
        questions = tuple(_question(shape, rng) for _ in range(shape.questions))
        found.append((buffer.getvalue(), questions))
    return found


def _question(shape: Shape, rng: np.random.Generator) -> Question:
    # The tokenizer's tokens are bytes, so that a letter stands for a token.
    text = "".join(map(chr, rng.integers(97, 123, shape.asked)))
    return Question(QuestionKind.OPEN, text, max_new_tokens=shape.answered)


def _about(image: Image.Image, questions: tuple[Question, ...]) -> ImageQuestions:
    return ImageQuestions((image,), questions, (Condition(SOURCE, image.size),))


class Benchmark:
    """One model, both ways."""

    def __init__(self, folder: Path, pixels: tuple[int, int], device: str) -> None:
        least, most = pixels
        options = Qwen25Options(
            checkpoint=str(folder), device=device, min_pixels=least, max_pixels=most
        )
        self.vlm = Qwen25Vlm(options)
        # Of its own, since the engine changes how its model attends.
        self.model = Qwen25Vlm(options).pretrained()
        self.limits = {"shortest_edge": least, "longest_edge": most}
        family = self.vlm.family
        self.family, self.processor = family, family.preprocess.processor
        # No answer ends by chance: each has the length that the shape says.
        for head in (family.head, self.model.lm_head):
            head.weight.data[list(family.stop)] = 0

    def one_at_a_time(self, items: Items) -> list[str]:
        """Answer as the reference evaluator does."""
        answers = []
        for content, questions in items:
            for question in questions:
                image = self._opened(content)
                inputs = self.processor(images=[image], size=self.limits, return_tensors="pt")
                inputs = {name: each.to(self.model.device) for name, each in inputs.items()}
                inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
                prompt = self._prompt(question, int(inputs["image_grid_thw"].prod()) // 4)
                limit = question.max_new_tokens or 1
                written = generate_alone(self.model, prompt, limit, **inputs)
                answers.append(self.family.tokenizer.decode(written, skip_special_tokens=True))
        return answers

    def _opened(self, content: bytes) -> Image.Image:
        """Return the image as the evaluator's utilities do: scaled before the processor is."""
        image = Image.open(io.BytesIO(content)).convert("RGB")
        least, most = self.limits["shortest_edge"], self.limits["longest_edge"]
        height, width = smart_resize(
            image.height, image.width, factor=28, min_pixels=least, max_pixels=most
        )
        return image.resize((width, height), Image.Resampling.BICUBIC)

    def _prompt(self, question: Question, visual: int) -> list[int]:
        content = [{"type": "image"}, {"type": "text", "text": self.family.wording(question)}]
        prompt = self.family.tokenizer.apply_chat_template(
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
            chat_template=TEMPLATE,
            add_generation_prompt=True,
            tokenize=False,
        )
        whole = str(prompt).replace("<|image_pad|>", "<|image_pad|>" * visual)
        return self.family.encode_text(whole, special=True)

    def batched(self, items: Items) -> list[str]:
        """Answer through the contract, images in batches."""
        answers: list[str] = []
        step = self.vlm.batch_images
        for first in range(0, len(items), step):
            batch = [
                _about(Image.open(io.BytesIO(each)).convert("RGB"), asked)
                for each, asked in items[first : first + step]
            ]
            answers += [answer.text or "" for group in self.vlm.answer(batch) for answer in group]
        return answers

    def arithmetic(self, items: Items) -> float:
        """Return how many times the FLOPs one at a time takes, of those when batched."""
        content, questions = items[0]
        with FlopCounterMode(display=False) as alone:
            self.one_at_a_time([(content, questions[:1])])
        with FlopCounterMode(display=False) as together:
            self.batched(items[:1])
        return len(questions) * alone.get_total_flops() / together.get_total_flops()

    def ideal_seconds(self, items: Items, shape: Shape, peaks: tuple[float, float]) -> float:
        """Return the time at the roofline: FLOPs of vision and prefill, bytes of decoding."""
        flops_per_second, bytes_per_second = peaks
        layout = self.vlm.vision.prepare([Image.open(io.BytesIO(items[0][0])).convert("RGB")])[0]
        patches, visual = layout.layout.tokens, self.family.visual_tokens(layout.layout)
        tower = sum(each.numel() for each in self.vlm.vision.parameters().values())
        decoder = sum(each.numel() for each in self.family.decoder.layers.parameters())
        prompt = len(items) * (visual + shape.questions * (shape.asked + 12))
        flops = 2 * (len(items) * patches * tower + prompt * decoder)
        steps = -(-len(items) // self.vlm.batch_images) * (shape.answered - 1)
        cached = len(items) * visual * self.vlm._model().budget._cached * (shape.answered - 1)
        moved = steps * 2 * decoder + cached
        return flops / flops_per_second + moved / bytes_per_second


def _timed(
    way: Callable[[Items], list[str]], items: Items, clock: Callable[[], float]
) -> tuple[float, list[str]]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = clock()
    answers = way(items)
    return clock() - started, answers


def compare(
    bench: Benchmark, name: str, rounds: int, gpu: bool, clock: Callable[[], float]
) -> None:
    """Run both ways in turn and print their rates and ratio."""
    shape = SHAPES[name]
    items = data(shape)
    arithmetic = bench.arithmetic(items)
    slow, fast = [], []
    for _ in range(rounds):
        seconds, expected = _timed(bench.one_at_a_time, items, clock)
        slow.append(seconds)
        seconds, answers = _timed(bench.batched, items, clock)
        fast.append(seconds)
        if answers != expected and not gpu:
            raise SystemExit(f"{name}: the two ways answer differently")
    total = shape.images * shape.questions
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    line = f"{name:12}{shape.questions:9}{shape.answered:11}{arithmetic:12.1f}"
    line += f"{total / statistics.median(slow):15.2f}{total / statistics.median(fast):11.2f}"
    line += f"{statistics.median(ratios):8.1f}   {min(ratios):.1f} to {max(ratios):.1f}"
    device = torch.cuda.get_device_name() if gpu else ""
    for part, peaks in PEAKS.items():
        if part in device:
            ideal = bench.ideal_seconds(items, shape, peaks)
            line += f"   {100 * ideal / statistics.median(fast):.0f} % of the roofline"
    print(line, flush=True)


def main() -> None:
    """Build the model and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.gpu:
            save_qwen2_5_vl(Path(folder), LARGE_TEXT, LARGE_VISION, std=0.02)
            bench = Benchmark(Path(folder), LARGE_PIXELS, "cuda")
        else:
            save_qwen2_5_vl(Path(folder), MID_TEXT, MID_VISION, std=0.1)
            bench = Benchmark(Path(folder), MID_PIXELS, "cpu")
        print(f"{arguments.threads} threads, {'GPU' if arguments.gpu else 'CPU'}")
        clock = time.process_time if arguments.cpu_time else time.perf_counter
        print("questions per second" + " of processor time" * arguments.cpu_time)
        heads = ("per image", "tokens", "arithmetic", "one at a time", "batched", "ratio")
        print(
            f"{'data':12}{heads[0]:>9}{heads[1]:>11}{heads[2]:>12}{heads[3]:>15}{heads[4]:>11}",
            end="",
        )
        print(f"{heads[5]:>8}   rounds")
        for name in arguments.shape:
            compare(bench, name, arguments.rounds, arguments.gpu, clock)


if __name__ == "__main__":
    main()
