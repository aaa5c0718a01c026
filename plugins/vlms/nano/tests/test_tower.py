"""Vision access of the bundled model, whose tower is that of Qwen2.5-VL."""

from __future__ import annotations

import torch
from lossylens_toolkit.transformers_vlm.tower_tests import IMAGES, TowerTests
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.vlm import Nano


def test_vision_access_with_trained_weights():
    tower = Nano(NanoOptions(device="cpu")).vision
    tests = TowerTests()
    tests.test_conditions_of_zeros_change_no_bit(tower)
    tests.test_conditions_keep_to_their_images(tower)
    tests.test_a_clone_is_ones_own(tower)


def test_resolution():
    """It scales every image to about 224 x 224 pixels unless told."""
    tower = Nano(NanoOptions(device="cpu")).vision
    assert tower.layout((224, 224)) == Layout(1, 16, 16)
    [small] = tower.prepare([IMAGES[0].resize((200, 200))], resolution=112**2)
    assert small.layout == Layout(1, 8, 8)
    with torch.inference_mode():
        assert tower.encode([small])[0].features.shape[0] == 16
