"""Fidelity metrics of networks, with files of random weights in the place of the real ones."""

from __future__ import annotations

import io
import socket

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("torchmetrics")
pytest.importorskip("torch_fidelity")

import torch
from lossylens.errors import ImageError
from lossylens.registry.fidelity import ALEXNET, INCEPTION, VGG16
from lossylens.testing.pictures import picture
from lossylens_toolkit import fidelity_networks
from PIL import Image


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """Let nothing be downloaded, and the hub be empty."""

    def refuse(*_):
        raise AssertionError("a download")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # Filling large layers with random numbers, before they are loaded, takes seconds.
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda tensor, **_: tensor)


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def save(weights, model):
    """Save random weights of *model*; layers that nothing here uses as one number each."""
    torch.manual_seed(1)
    state = {
        name: torch.zeros(()).expand(value.shape)
        if name.startswith("classifier")
        else random(name, value)
        for name, value in model.state_dict().items()
    }
    weights.path.parent.mkdir(parents=True)
    torch.save(state, weights.path)


def random(name, like):
    """Weights that let about as much through as comes in."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    if like.ndim == 1:
        positive = name.endswith(("running_var", "bn.weight"))
        return torch.ones(like.shape) if positive else torch.zeros(like.shape)
    return torch.randn(like.shape) * (2 / like[0].numel()) ** 0.5


def bare(constructor, **arguments):
    with torch.device("meta"):
        return constructor(**arguments)


def test_ms_ssim_is_that_of_the_field():
    pytest.importorskip("pytorch_msssim")
    original = picture(256, 256)
    metric = fidelity_networks.make_ms_ssim()
    assert metric(original, as_jpeg(original, 5)) == pytest.approx(0.737589, abs=2e-6)
    assert metric(original, original) == pytest.approx(1)
    small = picture(160, 300)
    with pytest.raises(
        ImageError, match="MS-SSIM needs sides of 161 pixels, the image has 300x160"
    ):
        metric(small, small)


def test_lpips_takes_images_as_the_network_was_trained():
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
    from torchvision.models import alexnet

    save(ALEXNET, bare(alexnet))
    metric = fidelity_networks.make_lpips()
    original = picture(40, 64)
    mild, harsh = as_jpeg(original, 60), as_jpeg(original, 2)
    # In [-1, 1], as the paper has it.
    tensors = [
        torch.from_numpy(np.array(each)).permute(2, 0, 1)[None] / 127.5 - 1
        for each in (original, harsh)
    ]
    expected = learned_perceptual_image_patch_similarity(*tensors, net_type="alex")
    assert metric(original, harsh) == pytest.approx(float(expected), rel=1e-4)
    assert metric(original, original) == 0
    # One value does not depend on those before.
    assert metric(original, harsh) == pytest.approx(float(expected), rel=1e-4)
    assert 0 < metric(original, mild) < metric(original, harsh)
    small = picture(30, 64)
    with pytest.raises(ImageError, match="LPIPS needs sides of 31 pixels"):
        metric(small, small)


def test_dists_rises_with_distortion():
    from torchvision.models import vgg16

    save(VGG16, bare(vgg16))
    metric = fidelity_networks.make_dists()
    original = picture(48, 33)
    assert metric(original, original) == pytest.approx(0, abs=1e-6)
    assert 0 < metric(original, as_jpeg(original, 60)) < metric(original, as_jpeg(original, 2)) < 1
    small = picture(15, 64)
    with pytest.raises(ImageError, match="DISTS needs sides of 16 pixels"):
        metric(small, small)


def test_inception_features_for_fid():
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(torch, "load", lambda *_, **__: None)
        model = bare(
            FeatureExtractorInceptionV3,
            name="inception-v3-compat",
            features_list=["2048"],
            feature_extractor_weights_path="x",
        )
    save(INCEPTION, model)
    features = fidelity_networks.make_inception()
    original = picture(20, 31)
    found = features(original)
    assert (found.shape, found.dtype) == ((2048,), np.float32)
    assert np.isfinite(found).all()
    assert found.tolist() == features(original.copy()).tolist()
    assert found.tolist() != features(as_jpeg(original, 5)).tolist()


class Malicious:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("weights", "make"),
    [
        (ALEXNET, fidelity_networks.make_lpips),
        (VGG16, fidelity_networks.make_dists),
        (INCEPTION, fidelity_networks.make_inception),
    ],
)
def test_weights_are_never_unpickled(weights, make, capsys):
    weights.path.parent.mkdir(parents=True)
    torch.save({"features.0.weight": Malicious()}, weights.path)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        make()
    assert "unpickled" not in capsys.readouterr().out
