"""The adaptor: the decoded picture is repaired, and the VLM sees that in its place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import PIL
import torch
from lossylens.adaptor import Adaptor, Needs
from lossylens.codec import CodecPoint
from lossylens.errors import RequirementError
from lossylens.vlm import Condition, VlmIdentity
from lossylens_toolkit.neural_codec.checkpoints import file_hash, read_checkpoint
from lossylens_toolkit.training.adaptor_training import check_header, has_seen
from PIL import features
from PIL.Image import Image

from lossylens_adaptor_restore.network import RestorationNetwork, read_network, restored
from lossylens_adaptor_restore.options import JPEG, RestoreOptions
from lossylens_adaptor_restore.shifts import reapplied

METHOD = "restore"


class Restorer(Adaptor):
    """See the module."""

    def __init__(self, options: RestoreOptions) -> None:
        super().__init__(options)
        self.options: RestoreOptions = options
        self._by_shifts = options.method == "shifts"
        self.needs = Needs.PIXELS | Needs.BITSTREAM if self._by_shifts else Needs.PIXELS

    def provenance(self) -> Mapping[str, str]:
        """Return the checkpoint's hash, or the versions of the JPEG encoder."""
        if self._by_shifts:
            library = features.version("libjpeg_turbo") or features.version("jpg")
            return {"pillow": PIL.__version__, "jpeg_library": str(library)}
        path = self._checkpoint
        return {f"checkpoint {path.name}": file_hash(path)}

    def fits(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return why it does not serve *vlm* behind *point*, or ``""``.

        Shifts serve JPEG alone, and any VLM; a network any codec, and any VLM unless its
        training looked at the features of one.
        """
        if not self._by_shifts:
            return check_header(self._about, METHOD, vlm, self._checkpoint)
        if self.options.map.get(point.codec, point.codec) == JPEG:
            return ""
        return f"method shifts is for JPEG, and {point.label} is {point.codec}"

    def is_seen(self, vlm: VlmIdentity, point: CodecPoint) -> bool | None:
        """Whether the network's training had this codec at this level; None with shifts."""
        return None if self._by_shifts else has_seen(self._about, point)

    def picture(self, image: Image, condition: Condition) -> Image:
        """Return *image* repaired.

        Raises:
            BitstreamError: with shifts, the bitstream is no JPEG file of colours.
        """
        if not self._by_shifts:
            return restored(self._network, image)
        if condition.bitstream is None:  # an image that is context comes as it is
            return image
        return reapplied(image, condition.bitstream, self.options.shifts)

    @property
    def _checkpoint(self) -> Path:
        if self.options.checkpoint is None:
            raise RequirementError(
                "restore: method network needs a checkpoint; name it in the options"
            )
        return self.options.checkpoint

    @cached_property
    def _about(self) -> Mapping[str, Any]:
        return read_checkpoint(self._checkpoint).about

    @cached_property
    def _network(self) -> RestorationNetwork:
        gpu = self.options.device == "auto" and torch.cuda.is_available()
        return read_network(self._checkpoint).to("cuda" if gpu else "cpu")
