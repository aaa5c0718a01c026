"""The U-Net beside the neck, with the same loss behind a tiny LLaVA."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lossylens.adaptor import Training, TrainingPicture, TrainingPoint
from lossylens.codec import SOURCE, CodecPoint, Square
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Condition, VlmIdentity
from lossylens_adaptor_transform_neck.options import PostOptions, PostTrainingOptions
from lossylens_adaptor_transform_neck.post_processing import PostProcessor
from lossylens_adaptor_transform_neck.post_training import PostTrainer
from lossylens_adaptor_transform_neck.unet import Unet
from lossylens_toolkit.training.tensor_pictures import prepared_tensors
from lossylens_toolkit.transformers_vlm.families.llava import LlavaVlm
from lossylens_toolkit.transformers_vlm.vlm_options import LlavaOptions
from lossylens_toolkit.transformers_vlm.vlm_testing import save_llava
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.vlm import Nano
from PIL import Image

#: Any codec will do: nothing but decoded pictures counts.
Q5 = CodecPoint("jpeg", "q5", "jpeg", "key", square=Square(64))


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize(size)


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed, (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def vlm(tmp_path_factory) -> LlavaVlm:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    return LlavaVlm(LlavaOptions(checkpoint=str(folder)))


def test_it_has_as_many_parameters_as_counted_and_begins_as_the_identity() -> None:
    with torch.device("meta"):
        assert sum(each.numel() for each in Unet(64).parameters()) == 31_037_763
    x = torch.rand(1, 3, 40, 50)
    assert torch.equal(Unet(2)(x), x)


def test_tensors_are_preprocessed_as_images_are(vlm) -> None:
    for vision, side in ((vlm.vision, 56), (Nano(NanoOptions()).vision, 224)):
        image = picture(1, (side, side))
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        [wanted], [found] = vision.prepare([image]), prepared_tensors(vision, x, "this")
        assert found.layout == wanted.layout
        torch.testing.assert_close(found.pixels, wanted.pixels, atol=1e-5, rtol=0)


def test_it_is_trained_and_repairs(vlm, tmp_path: Path) -> None:
    identity = VlmIdentity("llava-1.5-7b", "mine", dict(vlm.provenance()))
    pictures = [TrainingPicture(f"{n}", partial(png, n)) for n in range(3)]
    points = [TrainingPoint(Q5, partial(load_registry().build_codec, "jpeg", "q5"))]
    given = Training(vlm, identity, points, pictures[:2], pictures[2:], 1, tmp_path)
    options = PostTrainingOptions(
        steps=3, batch=2, validate_every=3, learning_rate=1e-2, channels=2
    )
    path = PostTrainer(options).train(given).checkpoint
    adaptor = PostProcessor(PostOptions([path]))
    assert adaptor.fits(identity, Q5) == ""
    assert adaptor.fits(identity, SOURCE) == (
        "no post-processing for uncompressed raw, there is one for jpeg q5"
    )
    decoded = picture(2, (64, 64))
    repaired = adaptor.picture(decoded, Condition(Q5, (64, 64)))
    assert repaired.size == decoded.size
    assert repaired.tobytes() != decoded.tobytes()
    # An image that is context was not compressed.
    assert adaptor.picture(decoded, Condition(SOURCE, (64, 64))) is decoded
