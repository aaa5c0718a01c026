from __future__ import annotations

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_llava


class TestLlava1513B(PluginTests):
    name = "llava-1.5-13b"
    hub_id = "llava-hf/llava-1.5-13b-hf"
    gigabytes = 26.7
    save = save_llava
