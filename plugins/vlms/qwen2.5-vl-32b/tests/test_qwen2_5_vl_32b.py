from __future__ import annotations

from typing import ClassVar

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_qwen2_5_vl


class TestQwen25VL32B(PluginTests):
    name = "qwen2.5-vl-32b"
    hub_id = "Qwen/Qwen2.5-VL-32B-Instruct"
    gigabytes = 66.9
    save = save_qwen2_5_vl
    options: ClassVar = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
