"""tools/rebind: adaptors go with a VLM whose language model alone was trained further."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lossylens_adaptor_cve
import pytest
import torch
from lossylens.codec import SOURCE
from lossylens.registry.plugins import load_registry
from lossylens.vlm import VlmIdentity
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_vlm_nano.vlm import BUNDLED
from safetensors.torch import load_file, save_file

TOOL = Path(__file__).parents[1] / "tools" / "rebind"


@pytest.fixture
def rebind(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The tool, called with paths."""
    main = runpy.run_path(str(TOOL))["main"]

    def call(*arguments: Path) -> None:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        main()

    return call


def changed(folder: Path, part: str) -> Path:
    """Copy nano, with one value of the first tensor of *part* changed."""
    shutil.copytree(BUNDLED, folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(each for each in sorted(weights) if part in each)
    value = weights[name].flatten()
    value[0] += 1
    weights[name] = value.view(weights[name].shape)
    save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.fixture
def adaptor(tmp_path: Path) -> Path:
    bundled = Path(lossylens_adaptor_cve.__file__).with_name("nano.safetensors")
    return Path(shutil.copy(bundled, tmp_path / "cve.safetensors"))


def test_an_adaptor_follows_a_language_model(
    tmp_path: Path, adaptor: Path, rebind: Callable[..., None]
) -> None:
    further = changed(tmp_path / "further", "layers.")
    before = read_checkpoint(adaptor)
    cve = load_registry().build_adaptor("cve", {"checkpoint": str(adaptor)})
    vlm = load_registry().build_vlm("nano", {"checkpoint": str(further)})
    identity = VlmIdentity("nano", "nano", vlm.provenance())
    assert "other weights" in cve.fits(identity, SOURCE)

    rebind(BUNDLED / "model.safetensors", further / "model.safetensors", adaptor)
    after = read_checkpoint(adaptor)
    assert after.about == {**before.about, "vlm_weights": identity.weights}
    assert all(torch.equal(after.state[name], value) for name, value in before.state.items())


def test_another_encoder_is_refused(
    tmp_path: Path, adaptor: Path, rebind: Callable[..., None]
) -> None:
    other = changed(tmp_path / "other", "visual.")
    whole = adaptor.read_bytes()
    with pytest.raises(SystemExit, match="its vision encoder is not that of"):
        rebind(BUNDLED / "model.safetensors", other / "model.safetensors", adaptor)
    with pytest.raises(SystemExit, match="was not trained for"):
        rebind(other / "model.safetensors", other / "model.safetensors", adaptor)
    assert adaptor.read_bytes() == whole
