"""CLIP's image and text encoders."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
import transformers
from lossylens.errors import ConfigError, RequirementError
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedTokenizerBase
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lossylens_toolkit.checkpoint_file import load
from lossylens_toolkit.clip.clip_checkpoint import weight_files
from lossylens_toolkit.clip.templates import TEMPLATES
from lossylens_toolkit.transformers_vlm import checkpoint
from lossylens_toolkit.transformers_vlm.clip_tower import ClipLikeTower
from lossylens_toolkit.transformers_vlm.square import cropped_box, padded, padded_box
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE, Layout, PreparedImage

#: How an image becomes a square: its middle, all of it with a border, or all of it distorted.
Fit = Literal["crop", "pad", "squash"]

#: Texts that are encoded at once.
_TEXTS = 256

#: A tensor of a layer, and its number where it is one of the image encoder.
_LAYER = re.compile(r"(?:vision_model\.encoder\.layers\.(\d+)|text_model\.encoder\.layers\.\d+)\.")

#: The vectors of tokens, most of what is left of a text encoder without layers.
_VOCABULARY = "text_model.embeddings.token_embedding.weight"


class ClipPreprocessor:
    """Makes squares of images; the detail is the :data:`Fit`."""

    def __init__(self, processor: CLIPImageProcessorPil, side: int, patch: int) -> None:
        self.processor: Any = processor
        self.side = side
        self.patch = patch

    def __call__(self, image: Image, detail: Hashable) -> PreparedImage:
        """Return ``(1, 3, side, side)``."""
        square = {"height": self.side, "width": self.side}
        cropped = detail == "crop"
        pixels = self.processor(
            images=[padded(image, self.processor.image_mean) if detail == "pad" else image],
            return_tensors="pt",
            size={"shortest_edge": self.side} if cropped else square,
            crop_size=square,
            do_center_crop=cropped,
        )["pixel_values"]
        return PreparedImage(pixels, self.layout(image.size, detail))

    def layout(self, size: tuple[int, int], detail: Hashable) -> Layout:
        """Return one tile, and what it shows of an image of *size*.

        Raises:
            ConfigError: there is no such fit.
        """
        if detail == "squash":
            box = WHOLE
        elif detail == "pad":
            box = padded_box(size)
        elif detail == "crop":
            box = cropped_box(size)
        else:
            raise ConfigError(f"an image is made square by crop, pad or squash, not by {detail!r}")
        grid = self.side // self.patch
        return Layout(1, grid, grid, extra=1, rectangles=(box,))


class ClipTower(ClipLikeTower):
    """All layers of CLIP's image encoder.

    What it projects is one token per image: the embedding, not normalised.  So
    :meth:`enter` gives the embedding of hidden states from elsewhere.
    """

    preprocess: ClipPreprocessor
    detail: Hashable = "crop"

    def __init__(self, model: CLIPModel, preprocess: ClipPreprocessor) -> None:
        module: Any = model.vision_model
        super().__init__(module, module.config.num_hidden_layers)
        self.unused = frozenset()
        self.projectors = {"projection": model.visual_projection}
        self.preprocess = preprocess

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout at the default fit."""
        return self.preprocess.layout(size, self.detail)

    def last(self, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Return the projected class token."""
        return self.projectors["projection"](self.module.post_layernorm(hidden[:, :1]))

    def class_rows(
        self, pictures: Sequence[PreparedImage], layers: Collection[int]
    ) -> list[Tensor]:
        """Return, layer by layer, the class token's attention, ``(images, heads, tokens)``.

        Of all that :meth:`attention` returns it is the one row of queries that is computed.

        Raises:
            ConfigError: there is no such layer.
        """
        flow, first, found = self._started(pictures), 0, []
        for number in sorted(layers):
            if not 0 <= number < self.layers:
                raise ConfigError(f"the vision encoder has no layer {number}; it has {self.layers}")
            flow = self._run(flow, first, number, checkpointing=False)
            query, key = self.query_key(number, self._normed(number, 0, flow.hidden, flow))
            exact = torch.promote_types(query.dtype, torch.float32)
            row = query[:, :, :1].to(exact) @ key.to(exact).transpose(-1, -2)
            found.append((row[:, :, 0] * query.shape[-1] ** -0.5).softmax(-1))
            first = number
        return found


class Clip:
    """A loaded CLIP, frozen.

    Args:
        model: of transformers.
        tokenizer: of the checkpoint; None for a model without its text encoder.
        processor: of the checkpoint; values are normalised as it says.

    Attributes:
        tower: the image encoder; see :class:`lossylens.vlm.VisionAccess`.
        width: of the embeddings.
        scale: by which cosines are multiplied before the softmax over classes or texts.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: PreTrainedTokenizerBase | None,
        processor: CLIPImageProcessorPil,
    ) -> None:
        self._model: Any = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        vision: Any = model.config.vision_config
        preprocess = ClipPreprocessor(processor, vision.image_size, vision.patch_size)
        self.tower = ClipTower(model, preprocess)
        self.width = model.projection_dim
        self.scale = float(model.logit_scale.exp())

    def prepare(self, images: Sequence[Image], fit: Fit = "crop") -> list[PreparedImage]:
        """Preprocess RGB images; CLIP's own way is to crop.

        Raises:
            ConfigError: there is no such *fit*.
        """
        return [self.tower.preprocess(image, fit) for image in images]

    def class_attention(self, pictures: Sequence[PreparedImage], layers: Collection[int]) -> Tensor:
        """Return how the class token attends to the patches.

        Args:
            pictures: preprocessed images.
            layers: counted from 0; nothing behind the last of them is computed.

        Returns:
            ``(images, layers, rows, columns)``, layers ascending, the mean of the heads.  What
            the class token attends to itself is left out, so that a map sums to less than 1.

        Raises:
            ConfigError: there is no such layer.
        """
        rows = [row[:, :, 1:].mean(1) for row in self.tower.class_rows(pictures, layers)]
        layout = pictures[0].layout
        return torch.stack(rows, 1).unflatten(-1, (layout.rows, layout.columns))

    def embed_images(self, pictures: Sequence[PreparedImage]) -> Tensor:
        """Return the embeddings of images, ``(images, width)``, not normalised."""
        return torch.cat([each.features for each in self.tower.encode(pictures)])

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of texts, ``(texts, width)``, not normalised.

        Raises:
            ConfigError: a text has more tokens than the text encoder has positions, or that
                encoder was not loaded.
        """
        if self._tokenizer is None:
            raise ConfigError("this CLIP was loaded without its text encoder")
        positions = self._model.config.text_config.max_position_embeddings
        found = []
        for first in range(0, len(texts), _TEXTS):
            some = list(texts[first : first + _TEXTS])
            tokens = self._tokenizer(some, padding=True, return_tensors="pt")
            lengths = tokens["attention_mask"].sum(1).tolist()
            for text, length in zip(some, lengths, strict=True):
                if length > positions:
                    raise ConfigError(
                        f"{text[:40]!r}... has {length} tokens; CLIP takes {positions}"
                    )
            found.append(
                self._model.get_text_features(
                    input_ids=tokens["input_ids"].to(self.tower.device),
                    attention_mask=tokens["attention_mask"].to(self.tower.device),
                ).pooler_output
            )
        return torch.cat(found)

    def class_vectors(self, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
        """Return a unit vector per class, ``(classes, width)``, to classify images with.

        It is the direction of the mean of the normalised embeddings of all *templates* with
        the class's name in the place of ``{}``, as CLIP's authors do for ImageNet.  An image's
        class is that whose vector has the largest product with the image's embedding.

        Raises:
            ConfigError: as :meth:`embed_texts`, or a template has no place for the name.
        """
        for template in templates:
            if template.count("{}") != 1:
                raise ConfigError(f"the template {template!r} must have one {{}} for the name")
        texts = [template.replace("{}", name) for name in names for template in templates]
        embedded = normalize(self.embed_texts(texts), dim=-1)
        return normalize(embedded.unflatten(0, (len(names), -1)).mean(1), dim=-1)


def load_clip(
    name: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    layers: int | None = None,
) -> Clip:
    """Return CLIP from a folder or the local hub cache; nothing is downloaded.

    Args:
        name: hub id or folder.
        device: where to.
        dtype: of the weights.
        layers: how many of the image encoder, for who reads their attention: the rest of it
            and the text encoder are left out, nine tenths of the memory of a large CLIP.

    Raises:
        RequirementError: there is no such checkpoint, it is of another architecture, or a
            file of it is missing or damaged.
    """
    folder = checkpoint.find(name)
    files = weight_files(folder)
    found = checkpoint.model_type(folder)
    if found != "clip":
        raise RequirementError(f"{folder} is a model of type {found!r}, not 'clip'")
    weights: dict[str, Tensor] = {}
    for path in files:
        weights |= load(path).content
    config: Any = checkpoint.read_part(folder, CLIPConfig)
    if layers is not None:
        weights = _image_encoder(weights, config, layers)
    transformers.utils.logging.disable_progress_bar()
    loader: Any = CLIPModel
    model, notes = loader.from_pretrained(
        None, config=config, state_dict=weights, output_loading_info=True, dtype=dtype
    )
    if notes["missing_keys"]:
        some = ", ".join(sorted(notes["missing_keys"])[:3])
        raise RequirementError(f"the weights in {folder} lack {some}")
    return Clip(
        model.to(device),
        checkpoint.read_part(folder, AutoTokenizer) if layers is None else None,
        checkpoint.read_part(folder, CLIPImageProcessorPil),
    )


def _image_encoder(weights: Mapping[str, Tensor], config: Any, layers: int) -> dict[str, Tensor]:
    """Return the weights of the first layers alone, and make *config* that of such a model."""
    vision, text = config.vision_config, config.text_config
    vision.num_hidden_layers = min(layers, vision.num_hidden_layers)
    text.num_hidden_layers, text.vocab_size = 0, 1
    text.bos_token_id = text.eos_token_id = text.pad_token_id = 0
    kept = {}
    for name, value in weights.items():
        of_layer = _LAYER.match(name)
        if of_layer is None or (of_layer[1] is not None and int(of_layer[1]) < layers):
            kept[name] = value[:1] if name == _VOCABULARY else value
    return kept
