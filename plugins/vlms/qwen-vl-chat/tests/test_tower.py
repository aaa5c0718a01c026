"""Vision access of Qwen-VL-Chat, as every family gives it."""

from __future__ import annotations

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_toolkit.transformers_vlm.tower_tests import IMAGES, TowerTests
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout
from lossylens_vlm_qwen_vl_chat.plugin import QwenVLChatOptions
from lossylens_vlm_qwen_vl_chat.vlm import QwenVLChatVlm


@pytest.fixture(scope="module")
def family(folder):
    return QwenVLChatVlm(QwenVLChatOptions(checkpoint=str(folder), device="cpu")).family


@pytest.fixture
def tower(family):
    return family.tower


class TestTower(TowerTests):
    pass


def test_square_grids_enter_and_become_as_many_tokens(family, tower):
    for side in (3, 4, 8, 11):
        layout = Layout(1, side, side)
        [entered] = tower.enter(1, [torch.ones(1, side**2, tower.width)], [layout])
        assert len(entered.features) == family.visual_tokens(layout) == 16
    # As many patches as a square has.
    with pytest.raises(ConfigError, match="its 2x8 patches are no square"):
        tower.enter(1, [torch.ones(1, 16, tower.width)], [Layout(1, 2, 8)])


def test_hidden_states_begin_behind_the_first_norm(tower):
    """As those of CLIP do in transformers."""
    twin, seen = tower.clone(), []
    twin.module.ln_pre.register_forward_hook(lambda _, __, out: seen.append(out))
    pictures = tower.prepare(IMAGES[:1])
    twin.encode(pictures)
    assert torch.equal(tower.hidden_states(pictures, [0])[0][0], seen[0])


def test_the_resolution_is_ignored(tower):
    [one], [other] = (tower.prepare(IMAGES[:1], resolution=each) for each in (None, 10**6))
    assert torch.equal(one.pixels, other.pixels)
