"""The baseline beside the neck: a U-Net repairs the decoded picture before the VLM sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from lossylens.adaptor import Adaptor
from lossylens.codec import CodecPoint
from lossylens.errors import ConfigError
from lossylens.vlm import Condition, VlmIdentity
from lossylens_toolkit.neural_codec.checkpoints import file_hash, read_checkpoint
from PIL import Image as PillowImage
from PIL.Image import Image

from lossylens_adaptor_transform_neck.options import PostOptions
from lossylens_adaptor_transform_neck.trained_for import TrainedFor, unserved
from lossylens_adaptor_transform_neck.unet import Unet

METHOD = "post-processing"


class PostProcessor(Adaptor):
    """See the module."""

    def __init__(self, options: PostOptions) -> None:
        super().__init__(options)
        self.options: PostOptions = options
        self._loaded: dict[Path, Unet] = {}

    @cached_property
    def files(self) -> Sequence[TrainedFor]:
        """The checkpoints.

        Raises:
            ConfigError: a file is none of this method.
        """
        return [read_post(path) for path in self.options.files()]

    def provenance(self) -> Mapping[str, str]:
        """Return the hashes of the checkpoints."""
        return {f"network {each.path.name}": file_hash(each.path) for each in self.files}

    def fits(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return why no network serves *vlm* behind *point*, or ``""``."""
        return unserved(self.files, vlm, point)

    def is_seen(self, vlm: VlmIdentity, point: CodecPoint) -> bool:
        """Whether the training had this codec at this level: it serves no other."""
        return True

    @torch.inference_mode()
    def picture(self, image: Image, condition: Condition) -> Image:
        """Return *image* repaired; one that is context comes as it is."""
        file = next((f for f in self.files if not f.unfit_behind(condition.point)), None)
        if file is None:
            return image
        network = self._network(file.path)
        weight = network.last.weight
        x = torch.from_numpy(np.array(image)).to(weight.device, torch.float32) / 255
        found = network(x.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        samples = (255 * found).round().clamp(0, 255).to(torch.uint8)
        return PillowImage.fromarray(samples.cpu().numpy())

    def _network(self, path: Path) -> Unet:
        if path not in self._loaded:
            gpu = self.options.device == "auto" and torch.cuda.is_available()
            self._loaded[path] = read_unet(path).to("cuda" if gpu else "cpu")
        return self._loaded[path]


def read_post(path: Path) -> TrainedFor:
    """Return what a file says.

    Raises:
        ConfigError: it cannot be read, or holds no such network.
    """
    try:
        return TrainedFor.read(path, METHOD)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: its header is malformed: {error}") from error


def read_unet(path: Path) -> Unet:
    """Return the network of a checkpoint, in float32 and frozen.

    Raises:
        ConfigError: it is of another network than its header says.
    """
    checkpoint = read_checkpoint(path)
    try:
        network = Unet(checkpoint.about["channels"])
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: its header describes no U-Net") from error
    own = {name: tuple(value.shape) for name, value in network.weights().items()}
    if own != {name: tuple(value.shape) for name, value in checkpoint.state.items()}:
        raise ConfigError(f"{path}: its weights are of another network than its header says")
    network.load_state_dict(dict(checkpoint.state), strict=False)
    return network.eval().requires_grad_(False)
