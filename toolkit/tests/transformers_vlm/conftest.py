from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from lossylens_toolkit.transformers_vlm.families.internvl import InternVLVlm
from lossylens_toolkit.transformers_vlm.families.janus import JanusVlm
from lossylens_toolkit.transformers_vlm.families.llava import LlavaVlm
from lossylens_toolkit.transformers_vlm.families.llava_onevision import LlavaOnevisionVlm
from lossylens_toolkit.transformers_vlm.families.qwen2_5_vl import Qwen25Vlm
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from lossylens_toolkit.transformers_vlm.vlm_options import (
    InternVLOptions,
    JanusOptions,
    LlavaOnevisionOptions,
    LlavaOptions,
    Qwen25Options,
)
from lossylens_toolkit.transformers_vlm.vlm_testing import SAVE

#: What each architecture's class and options are, with options that suit its tiny model.
KINDS = {
    "qwen2_5_vl": (
        Qwen25Vlm,
        Qwen25Options,
        {"min_pixels": 56 * 56, "max_pixels": 196 * 196, "system": "Help."},
    ),
    "internvl": (InternVLVlm, InternVLOptions, {"max_tiles": 3, "system": "帮助。"}),
    "janus": (JanusVlm, JanusOptions, {}),
    "llava": (LlavaVlm, LlavaOptions, {}),
    "llava_onevision": (LlavaOnevisionVlm, LlavaOnevisionOptions, {}),
}

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))
    # transformers says through logging what a tiny configuration leaves out.
    logging.getLogger("transformers").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny checkpoint of each architecture."""
    base = tmp_path_factory.mktemp("checkpoints")
    for name, save in SAVE.items():
        save(base / name)
    return {name: base / name for name in SAVE}


@pytest.fixture
def open_vlm(folders):
    """Return a function that opens the tiny checkpoint of an architecture."""

    def opened(name: str, **options: object) -> TransformersVlm:
        vlm, kind, suited = KINDS[name]
        given = {"checkpoint": str(folders[name]), "device": "cpu", **suited, **options}
        return vlm(kind(**given))

    return opened


@pytest.fixture(params=SAVE)
def kind(request) -> str:
    """Each architecture in turn."""
    return request.param


@pytest.fixture
def vlm(kind, open_vlm) -> TransformersVlm:
    return open_vlm(kind)
