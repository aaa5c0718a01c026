"""Qwen2.5-VL (Bai et al., arXiv:2502.13923)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from lossylens.vlm import Box, Question
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from lossylens_toolkit.transformers_vlm.boxes import as_fractions
from lossylens_toolkit.transformers_vlm.family import Family
from lossylens_toolkit.transformers_vlm.tower import Flow, VisionTower
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage
from lossylens_toolkit.transformers_vlm.vlm_options import Qwen25Options
from lossylens_toolkit.transformers_vlm.wording import qwen_wording
from lossylens_toolkit.written_boxes import four_numbers

#: The system prompt of the official chat template.
SYSTEM = "You are a helpful assistant."

#: Longest answer, in tokens, as the reference evaluator sets it.
LIMIT = 2048

#: Fewest and most pixels that the reference evaluator scales an image to, and its
#: exception: words in small pictures are not blown up as much.
PIXELS = (1280 * 28 * 28, 16384 * 28 * 28)
TASK_PIXELS = {"ocrbench": (10 * 10 * 28 * 28, 16384 * 28 * 28)}

#: The names of such limits in the image processor's settings.
_LIMITS = ("shortest_edge", "longest_edge")


class Qwen25Preprocessor:
    """Scales an RGB image within limits of pixels and cuts it into patches.

    The detail is a pair of fewest and most pixels, or None for the processor's own.

    The numbers are those of the processor, a few times sooner: it normalises each pixel,
    where there are but 256 values per channel, and takes the image apart as floats.
    """

    def __init__(self, processor: Qwen2VLImageProcessorPil) -> None:
        self.processor: Any = processor
        values = np.arange(256, dtype=np.uint8)[None, None].repeat(3, 0)
        scaled = self.processor.rescale(values, processor.rescale_factor)
        normal = self.processor.normalize(scaled, processor.image_mean, processor.image_std)
        #: What a value becomes, per channel: ``(3, 256)``.
        self._normal = np.asarray(normal, dtype=np.float32)[:, 0]

    def __call__(self, image: Image, detail: Hashable) -> PreparedImage:
        """Return patches ``(N, 3 * 2 * 14 * 14)``, in blocks of 2x2.

        Raises:
            ValueError: an image more than 200 times as long as it is wide.
        """
        processor = self.processor
        side, merge = processor.patch_size, processor.merge_size
        layout = self.layout(image.size, detail)
        rows, columns = layout.rows, layout.columns
        scaled = image.resize((columns * side, rows * side), processor.resample)
        values = np.asarray(scaled)
        blocks = values.reshape(rows // merge, merge, side, columns // merge, merge, side, 3)
        patches = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, side**2)
        pixels = np.empty((len(patches), 3, processor.temporal_patch_size, side**2), np.float32)
        for channel, normal in enumerate(self._normal):
            # An image is a film of equal frames.
            pixels[:, channel] = normal[patches[:, channel]][:, None]
        return PreparedImage(torch.from_numpy(pixels).flatten(1), layout)

    def layout(self, size: tuple[int, int], detail: Hashable) -> Layout:
        """Return rows and columns, always even, of an image of *size*.

        Raises:
            ValueError: it is more than 200 times as long as it is wide.
        """
        limits = self.processor.size
        least, most = detail if isinstance(detail, tuple) else tuple(limits[n] for n in _LIMITS)
        side = self.processor.patch_size
        factor = side * self.processor.merge_size
        width, height = size
        height, width = smart_resize(
            height, width, factor=factor, min_pixels=least, max_pixels=most
        )
        return Layout(1, height // side, width // side)


@dataclass(frozen=True)
class _Run:
    """Windows of one length.

    Attributes:
        at: token indices ``(windows, length)``, or None where the windows follow each
            other from *start* on.
        start: first token.
        windows: how many.
        length: tokens in each.
    """

    at: Tensor | None
    start: int
    windows: int
    length: int


@dataclass(frozen=True)
class _Geometry:
    """Where the tokens of a batch are.

    Tokens come in 2x2 blocks, blocks of a window together, windows of one length
    together.

    Attributes:
        order: in-order index to index among the processor's patches.
        inverse: of the order of blocks.
        raster: per image, indices of its tokens row by row.
        windows: for the layers with windows.
        images: for the layers with full attention.
        owner: image of each token.
        angles: rotary angles ``(N, head width / 2)``: rows, then columns.
    """

    order: Tensor
    inverse: Tensor
    raster: tuple[Tensor, ...]
    windows: tuple[_Run, ...]
    images: tuple[_Run, ...]
    owner: Tensor
    angles: Tensor


@dataclass(frozen=True)
class _Turned:
    """A geometry with the rotation of a batch.

    Attributes:
        geometry: where the tokens are.
        angles: rotary angles of the tokens ``(N, angles)``.
        rotation: their cosine and sine.
        query: to be added to those of queries, ``(images, layers, angles)``, or None.
    """

    geometry: _Geometry
    angles: Tensor
    rotation: tuple[Tensor, Tensor]
    query: Tensor | None


class Qwen25Tower(VisionTower):
    """The ViT with windowed attention and rotary positions.

    transformers attends window by window; here the windows of one length are one call.
    Hidden states may enter in any grid with even rows and columns.
    """

    preprocess: Qwen25Preprocessor

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, preprocess: Qwen25Preprocessor
    ) -> None:
        self.module: Any = model.model.visual
        self.preprocess = preprocess
        config = self.module.config
        self.layers, self.width, self.heads = config.depth, config.hidden_size, config.num_heads
        self.angles = self.width // self.heads // 2
        self.merge = config.spatial_merge_size
        self.window = config.window_size // config.patch_size // self.merge
        self.full = frozenset(config.fullatt_block_indexes)
        self.windowed = frozenset(range(self.layers)) - self.full
        frequency: list[float] = self.module.rotary_pos_emb.inv_freq.float().tolist()
        self._frequency = tuple(frequency)

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout between the default's fewest and most pixels.

        Raises:
            ValueError: the image is more than 200 times as long as it is wide.
        """
        return self.preprocess.layout(size, self.detail)

    def detail_at(self, resolution: int) -> Hashable:
        """Return fewest and most pixels around *resolution*.

        Sides are multiples of 28 pixels and keep the image's shape; a square is scaled to
        the nearest such square.  The task's own limits do not apply.
        """
        processor = self.preprocess.processor
        factor = processor.patch_size * processor.merge_size
        side = max(1, round(resolution**0.5 / factor))
        # Half a step to either side, so that rounding up from the one and down from the
        # other lead to the same square.
        least, most = ((side + half) * factor for half in (-0.5, 0.5))
        return round(least**2), round(most**2)

    def embed(self, pictures: Sequence[PreparedImage]) -> Tensor:
        """Return patch embeddings, windows together."""
        pixels = torch.cat([picture.pixels for picture in pictures])
        weight = self.module.patch_embed.proj.weight
        # A convolution whose stride is its kernel, over patches that are cut out already.
        hidden = linear(pixels.to(weight.device, weight.dtype), weight.flatten(1))
        layouts = tuple(picture.layout for picture in pictures)
        return hidden[self._geometry(layouts, hidden.device).order]

    def arrange(self, states: Sequence[Tensor], layouts: tuple[Layout, ...]) -> Tensor:
        """Return *states*, given row by row, windows together."""
        hidden = torch.cat([state[0] for state in states])
        at = torch.cat(self._geometry(layouts, hidden.device).raster)
        return torch.empty_like(hidden).index_copy(0, at, hidden)

    def locate(
        self,
        layouts: tuple[Layout, ...],
        device: torch.device,
        angles: Tensor | None,
        query: Tensor | None,
    ) -> _Turned:
        """Return windows and rotary angles."""
        geometry = self._geometry(layouts, device)
        turned = geometry.angles
        if angles is not None:
            turned = turned + angles[geometry.owner].float()
        return _Turned(geometry, turned, _rotation(turned[:, None]), query)

    def spread(self, vectors: Tensor, flow: Flow) -> Tensor:
        """Return the vector of its image for each token."""
        return vectors[flow.extra.geometry.owner]

    def states(self, flow: Flow) -> list[Tensor]:
        """Return hidden states row by row: ``(1, rows * columns, width)``."""
        return [flow.hidden[at][None] for at in flow.extra.geometry.raster]

    def norms(self, number: int) -> tuple[nn.Module, nn.Module]:
        """Return the norms of one block."""
        block = self.module.blocks[number]
        return block.norm1, block.norm2

    def attend(self, number: int, given: Tensor, flow: Flow) -> Tensor:
        """Return what attention, within windows or the image, adds."""
        geometry = flow.extra.geometry
        runs = geometry.images if number in self.full else geometry.windows
        mixed = _attend(*self._query_key_value(number, given, flow), runs)
        return self.module.blocks[number].attn.proj(mixed)

    def feed(self, number: int, given: Tensor) -> Tensor:
        """Return the feed-forward network."""
        return self.module.blocks[number].mlp(given)

    def weights(self, number: int, given: Tensor, flow: Flow) -> list[Tensor]:
        """Return attention row by row, zero between windows."""
        query, key, _ = self._query_key_value(number, given, flow)
        geometry = flow.extra.geometry
        owner = geometry.owner if number in self.full else self._window_of(geometry)
        found = []
        for at in geometry.raster:
            apart = owner[at][:, None] != owner[at]
            q, k = (part[at].transpose(0, 1).float() for part in (query, key))
            scores = q @ k.transpose(-1, -2) * self.module.blocks[number].attn.scaling
            found.append(scores.masked_fill(apart, float("-inf")).softmax(-1)[None])
        return found

    def project(self, flow: Flow) -> list[Tensor]:
        """Merge 2x2 blocks and return them row by row."""
        merged = self.module.merger(flow.hidden)[flow.extra.geometry.inverse]
        counts = [layout.tokens // self.merge**2 for layout in flow.layouts]
        return list(merged.split(counts))

    def _query_key_value(
        self, number: int, given: Tensor, flow: Flow
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value ``(N, heads, head width)``."""
        qkv = self.module.blocks[number].attn.qkv(given).view(len(given), 3, self.heads, -1)
        turned: _Turned = flow.extra
        rotation = turned.rotation
        if turned.query is not None:
            of_queries = turned.angles + self.spread(turned.query[:, number], flow).float()
            rotation = _rotation(torch.stack((of_queries, turned.angles), 1))
        query, key = _rotate(qkv[:, :2], *rotation).unbind(1)
        return query, key, qkv[:, 2]

    def _geometry(self, layouts: tuple[Layout, ...], device: torch.device) -> _Geometry:
        return _located(layouts, device, self.merge, self.window, self._frequency)

    @staticmethod
    def _window_of(geometry: _Geometry) -> Tensor:
        lengths = [run.length for run in geometry.windows for _ in range(run.windows)]
        numbers = torch.arange(len(lengths))
        return numbers.repeat_interleave(torch.tensor(lengths)).to(geometry.owner.device)


# Of numbers alone and never changed, so that towers can share it.
@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _located(
    layouts: tuple[Layout, ...],
    device: torch.device,
    merge: int,
    window_side: int,
    frequency: tuple[float, ...],
) -> _Geometry:
    """Return where the tokens of a batch are.

    Args:
        layouts: of its images.
        device: of the tensors returned.
        merge: side of a block in patches.
        window_side: side of a window in blocks.
        frequency: rotary frequencies of rows, and of columns.
    """
    window = _window_of_blocks(layouts, merge, window_side)
    lengths = torch.bincount(window)
    # Windows of one length together, and otherwise in order.
    by_block = (lengths[window] * (len(lengths) + 1) + window).argsort(stable=True)
    order = (by_block[:, None] * merge**2 + torch.arange(merge**2)).flatten()

    tokens = [layout.tokens for layout in layouts]
    owner = torch.arange(len(layouts)).repeat_interleave(torch.tensor(tokens))[order]
    in_raster = [_block_order(layout, merge) for layout in layouts]
    raster = [
        at[ids.argsort()] for at, ids in zip(order.argsort().split(tokens), in_raster, strict=True)
    ]
    row_column = torch.cat(
        [
            torch.stack((ids // layout.columns, ids % layout.columns), 1)
            for ids, layout in zip(in_raster, layouts, strict=True)
        ]
    )
    angles = (row_column[..., None] * torch.tensor(frequency)).flatten(1)[order]
    return _Geometry(
        order.to(device),
        by_block.argsort().to(device),
        tuple(at.to(device) for at in raster),
        tuple(_consecutive(lengths * merge**2)),
        tuple(_gathered(owner, len(layouts), device)),
        owner.to(device),
        angles.to(device),
    )


def _window_of_blocks(layouts: Sequence[Layout], merge: int, side: int) -> Tensor:
    """Return the window of each block, row by row and image by image, counted from 0.

    Windows are squares of *side* blocks from the upper left corner on, cut off at the right
    and at the lower edge, and never of two images.
    """
    found, before = [], 0
    for layout in layouts:
        rows, columns = layout.rows // merge, layout.columns // merge
        down, across = -(-rows // side), -(-columns // side)
        row, column = torch.arange(rows) // side, torch.arange(columns) // side
        found.append((before + row[:, None] * across + column).flatten())
        before += down * across
    return torch.cat(found)


def _block_order(layout: Layout, merge: int) -> Tensor:
    """Return the raster index of each patch, in the order of the processor."""
    ids = torch.arange(layout.tokens)
    split = ids.view(layout.rows // merge, merge, layout.columns // merge, merge)
    return split.transpose(1, 2).flatten()


def _consecutive(lengths: Tensor) -> list[_Run]:
    runs, start = [], 0
    found, counts = lengths.unique(return_counts=True)
    for length, count in zip(found.tolist(), counts.tolist(), strict=True):
        runs.append(_Run(None, start, count, length))
        start += count * length
    return runs


def _gathered(owner: Tensor, images: int, device: torch.device) -> list[_Run]:
    if images == 1:
        return [_Run(None, 0, 1, len(owner))]
    by_length: dict[int, list[Tensor]] = {}
    for image in range(images):
        at = (owner == image).nonzero()[:, 0]
        by_length.setdefault(len(at), []).append(at)
    return [
        _Run(torch.stack(each).to(device), 0, len(each), length)
        for length, each in by_length.items()
    ]


def _rotation(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine ``(N, 1 or 2, 1, head width)`` of ``(N, 1 or 2, angles)``."""
    twice = torch.cat((angles, angles), -1)[:, :, None]
    return twice.cos(), twice.sin()


def _rotate(part: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return *part* ``(N, 2, heads, head width)`` turned, computed in fp32."""
    value = part.float()
    first, second = value.chunk(2, -1)
    return (value * cosine + torch.cat((-second, first), -1) * sine).to(part.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor, runs: Sequence[_Run]) -> Tensor:
    """Return attention within each window: ``(N, width)``."""
    parts = []
    for run in runs:
        q, k, v = (_windows(part, run) for part in (query, key, value))
        out = scaled_dot_product_attention(q, k, v).transpose(1, 2)
        parts.append(out.reshape(run.windows * run.length, -1))
    if len(runs) == 1 and runs[0].at is None:
        return parts[0]
    if runs[0].at is None:
        return torch.cat(parts)
    at = torch.cat([run.at.flatten() for run in runs if run.at is not None])
    joined = torch.cat(parts)
    return torch.empty_like(joined).index_copy(0, at, joined)


def _windows(part: Tensor, run: _Run) -> Tensor:
    """Return ``(windows, heads, length, head width)``."""
    if run.at is not None:
        return part[run.at].transpose(1, 2)
    taken = part[run.start : run.start + run.windows * run.length]
    return taken.unflatten(0, (run.windows, run.length)).transpose(1, 2)


class Qwen25(Family):
    """Qwen2.5-VL of any size.

    Args:
        model: loaded.
        tokenizer: of the checkpoint.
        processor: of the checkpoint.
        system: system prompt; ``""`` leaves the system turn away.
        limit: most tokens of an answer where the question sets none.
        pixels: fewest and most pixels of an image of a task; None leaves the
            processor's own.
        own_box_wording: whether boxes are asked for as in training.
    """

    tower: Qwen25Tower
    position_axes = 3

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: Qwen2VLImageProcessorPil,
        *,
        system: str = SYSTEM,
        limit: int = LIMIT,
        pixels: Callable[[str], tuple[int, int]] | None = None,
        own_box_wording: bool = False,
    ) -> None:
        super().__init__(model, model.model.language_model, tokenizer, limit)
        self._own_box_wording = own_box_wording
        self.preprocess = Qwen25Preprocessor(processor)
        self.tower = Qwen25Tower(model, self.preprocess)
        self.image_token = model.config.image_token_id
        self._pixels = pixels
        self.tower.detail = pixels and pixels("")
        self.use_chatml(system)
        self.image_start = self.special("<|vision_start|>")
        self.image_end = self.special("<|vision_end|>")

    def wording(self, question: Question) -> str:
        """Return the generic wording: the published settings use no other."""
        return qwen_wording(question, own_boxes=self._own_box_wording)

    def box(self, text: str, size: tuple[int, int], detail: Hashable) -> Box | None:
        """Return the box whose numbers are pixels of the image as it was scaled."""
        numbers = four_numbers(text)
        if numbers is None:
            return None
        preprocess = self.tower.preprocess
        layout, side = preprocess.layout(size, detail), preprocess.processor.patch_size
        return as_fractions(numbers, (layout.columns * side, layout.rows * side))

    def detail(self, question: Question, images: int) -> Hashable:
        """Return fewest and most pixels of each image."""
        return self._pixels and self._pixels(question.task)

    def visual_tokens(self, layout: Layout) -> int:
        """Return one token per 2x2 patches."""
        return layout.tokens // self.tower.merge**2

    def visual_positions(self, layout: Layout, start: int) -> tuple[Tensor, int]:
        """Return M-RoPE positions (time, row, column), and that of the token that follows.

        Visual tokens share one time and count rows and columns; text goes on behind the
        largest number so far.
        """
        rows, columns = (side // self.tower.merge for side in (layout.rows, layout.columns))
        row = torch.arange(rows).repeat_interleave(columns)
        column = torch.arange(columns).repeat(rows)
        visual = torch.stack((torch.zeros_like(row), row, column)) + start
        return visual, start + max(rows, columns)


class Qwen25Vlm(TransformersVlm):
    """Qwen2.5-VL behind the core's contract."""

    model_type = "qwen2_5_vl"
    model_class = Qwen2_5_VLForConditionalGeneration
    options: Qwen25Options

    def load(self) -> Family:
        """Load the checkpoint."""
        options = self.options
        return Qwen25(
            self.pretrained(),
            self.part(AutoTokenizer),
            self.part(Qwen2VLImageProcessorPil),
            system=SYSTEM if options.system is None else options.system,
            limit=options.max_new_tokens or LIMIT,
            pixels=self._pixels,
            own_box_wording=options.own_box_wording,
        )

    def _pixels(self, task: str) -> tuple[int, int]:
        fewest, most = TASK_PIXELS.get(task, PIXELS)
        return self.options.min_pixels or fewest, self.options.max_pixels or most
