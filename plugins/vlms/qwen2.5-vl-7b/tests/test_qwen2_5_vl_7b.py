from __future__ import annotations

from typing import ClassVar

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_qwen2_5_vl


class TestQwen25VL7B(PluginTests):
    name = "qwen2.5-vl-7b"
    hub_id = "Qwen/Qwen2.5-VL-7B-Instruct"
    gigabytes = 16.6
    save = save_qwen2_5_vl
    options: ClassVar = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
