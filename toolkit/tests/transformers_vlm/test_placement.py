"""Devices, number formats, and what is said where the memory does not suffice."""

from __future__ import annotations

import pytest
import torch
from lossylens.errors import ConfigError, RequirementError
from lossylens_toolkit.transformers_vlm import placement
from lossylens_toolkit.transformers_vlm.placement import place
from lossylens_toolkit.transformers_vlm.vlm_options import VlmOptions


def options(**given: object) -> VlmOptions:
    return VlmOptions(checkpoint="", **{"device": "cpu", **given})


def test_formats() -> None:
    assert place(options()).dtype is torch.float32
    assert place(options(dtype="bfloat16")).describe() == {
        "dtype": "bfloat16",
        "quantization": "none",
        "device": "cpu",
    }


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("gpu0", "'gpu0' is none of auto, cpu"),
        ("cuda:77", "there is no cuda:77 here; GPUs found: "),
    ],
)
def test_a_device_that_does_not_exist(device, reason) -> None:
    with pytest.raises(ConfigError, match=reason):
        place(options(device=device))


def test_all_devices_need_one(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="device: all needs a GPU"):
        place(options(device="all"))


def test_too_little_memory_says_need_and_supply(monkeypatch) -> None:
    monkeypatch.setattr(placement, "free_memory", lambda device: 10_000_000_000)
    place(options(dtype="bfloat16")).check_memory("m", 4_000_000_000)
    with pytest.raises(RequirementError) as caught:
        place(options()).check_memory("qwen", 4_000_000_000)
    assert str(caught.value) == (
        "qwen needs 17.6 GB of memory in float32, and cpu has 10.0 GB free; "
        "dtype: bfloat16 halves that, or take a smaller model"
    )


def test_memory_is_checked_before_loading(open_vlm, monkeypatch) -> None:
    monkeypatch.setattr(placement, "free_memory", lambda device: 1000)
    vlm = open_vlm("janus")
    loaded = []
    monkeypatch.setattr(vlm.model_class, "from_pretrained", lambda *_, **__: loaded.append(1))
    with pytest.raises(RequirementError, match=r"needs 0\.0 GB of memory in float32"):
        _ = vlm.family
    assert not loaded


def test_packages_that_are_needed(monkeypatch) -> None:
    monkeypatch.setattr(placement.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequirementError, match="pip install bitsandbytes accelerate"):
        place(options(quantization="bnb-nf4"))


def test_bfloat16_answers(open_vlm) -> None:
    vlm = open_vlm("qwen2_5_vl", dtype="bfloat16", attention="math")
    assert next(vlm.family.decoder.parameters()).dtype is torch.bfloat16
    assert vlm.provenance()["dtype"] == "bfloat16"


def test_layers_are_spread_and_the_encoder_is_not(open_vlm, kind) -> None:
    """As for two GPUs; where they are missing, the map can still be made."""
    from transformers import AutoConfig

    vlm = open_vlm(kind)
    config = AutoConfig.from_pretrained(vlm.folder)
    with torch.device("meta"):
        model = vlm.model_class(config)
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    placed = placement.spread(model, {0: size, 1: size})
    assert set(placed.values()) == {0, 1}
    towers = ("model.visual.", "model.vision_tower.", "model.vision_model.")
    assert not [name for name in placed if name.startswith(towers)]
    parameters = [name for name, _ in model.named_parameters()]
    assert all(any(name.startswith(part) for part in placed) for name in parameters)
    with pytest.raises(RequirementError, match="does not fit on the GPUs"):
        placement.spread(model, {0: size // 8, 1: size // 8})
