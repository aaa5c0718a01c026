"""CoTAM's codecs: gains of levels, and a guidance map in the bitstream.

Liu et al., "When MLLMs Meet Compression Distortion: A Coding Paradigm Tailored to MLLMs",
ICLR 2026, arXiv:2509.24258.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from lossylens.errors import ConfigError, ImageError, RequirementError
from lossylens.images import plain_rgb
from lossylens_toolkit.clip import clip_checkpoint
from lossylens_toolkit.clip.model import Clip, load_clip
from lossylens_toolkit.neural_codec.checkpoints import file_hash
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.neural_codec.variable_rate import VariableRateCodec
from lossylens_toolkit.transformers_vlm import checkpoint
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lossylens_codec_cotam.guidance_map import (
    CELLS,
    Steps,
    map_length,
    pack_map,
    picture_key,
    read_maps,
    three_levels,
    unpack_map,
)
from lossylens_codec_cotam.plugin import LEVELS, NANO_LEVELS, CotamOptions
from lossylens_codec_cotam.tiling import fused, tiling


class GuidedCodec(VariableRateCodec):
    """A codec of variable rate with guidance; latents lie from the upper left corner on."""

    package = __package__
    levels = (*LEVELS, *(level for level in NANO_LEVELS if level not in LEVELS))
    has_side = True

    options: CotamOptions

    def provenance(self) -> Mapping[str, str]:
        """Return the base's, and the hashes of what guides.

        Raises:
            RequirementError: a checkpoint or the file of maps is missing.
            ConfigError: CLIP has no such layer.
        """
        found = dict(super().provenance())
        if self.options.guides_by_clip:
            folder = checkpoint.find(self.options.clip)
            self._check_layers(folder)
            for path in clip_checkpoint.weight_files(folder):
                found[f"clip {path.name}"] = file_hash(path)
        elif self.options.maps is not None:
            if not self.options.maps.is_file():
                raise RequirementError(f"{self.name}: there is no file {self.options.maps}")
            found["maps"] = file_hash(self.options.maps)
        return found

    def _check_layers(self, folder: Path) -> None:
        vision = checkpoint.read_json(folder / "config.json").get("vision_config")
        held = vision.get("num_hidden_layers") if isinstance(vision, dict) else None
        layer = max(self.options.layers)
        if isinstance(held, int) and layer >= held:
            raise ConfigError(
                f"{self.name}: layers: {self.options.clip} has no layer {layer}; it has {held},"
                " counted from 0"
            )

    def side_information(self, image: Image.Image) -> bytes:
        """Return the guidance map; nothing without guidance, or where the map prefers nothing.

        Raises:
            ImageError: the file of maps has none of this picture.
            RequirementError: CLIP is missing.
        """
        if self.options.guidance == "none":
            return b""
        picture = plain_rgb(image)
        if self.options.guides_by_clip:
            return pack_map(three_levels(self._looks(picture), self.options.threshold))
        try:
            return pack_map(self._maps[picture_key(picture)])
        except KeyError:
            raise ImageError(
                f"{self.name}: {self.options.maps} has no map of this picture"
            ) from None

    def side_length(self, start: bytes) -> int:
        """Return the length of the guidance map, which its first bytes say.

        Raises:
            BitstreamError: it is none.
        """
        return map_length(start)

    def steps(self, side: bytes) -> Tensor | None:
        """See the base."""
        return torch.from_numpy(unpack_map(side)) if side else None

    def _looks(self, image: Image.Image) -> NDArray[np.float64]:
        """Return how much is looked at each cell of a picture, by CLIP on it and on its tiles."""
        options = self.options
        if options.guidance == "clip":
            return self._attention(image)
        cut = tiling(options.tiles, image.size, options.most_tiles)
        whole = self._attention(image)
        if cut.columns * cut.rows == 1:
            return whole
        tiles = np.stack([self._attention(each) for each in cut.crops(image)])
        return fused(whole, tiles, cut)

    @torch.inference_mode()
    def _attention(self, image: Image.Image) -> NDArray[np.float64]:
        """Return how CLIP's class token attends to the cells of a picture, which is squashed."""
        layers = set(self.options.layers)
        found = self._clip.class_attention(self._clip.prepare([image], "squash"), layers)
        cells: NDArray[np.float64] = (
            adaptive_avg_pool2d(found.double().mean(1), CELLS)[0].cpu().numpy()
        )
        return cells

    @functools.cached_property
    def _clip(self) -> Clip:
        dtype = torch.float64 if self._dtype == torch.float64 else torch.float32
        layers = max(self.options.layers) + 1
        return load_clip(self.options.clip, device=self._device, dtype=dtype, layers=layers)

    @functools.cached_property
    def _maps(self) -> Mapping[str, Steps]:
        assert self.options.maps is not None
        return read_maps(self.options.maps)


class CotamElicCodec(GuidedCodec):
    """ELIC with gains and guidance."""

    name = "cotam-elic"
    padding = Padding(64)
    base = "lossylens_codec_elic.codec:ElicCodec"


class CotamDcaeCodec(GuidedCodec):
    """DCAE with gains and guidance."""

    name = "cotam-dcae"
    padding = Padding(128)
    base = "lossylens_codec_dcae.codec:DcaeCodec"
