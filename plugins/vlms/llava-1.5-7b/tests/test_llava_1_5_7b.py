from __future__ import annotations

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_llava


class TestLlava157B(PluginTests):
    name = "llava-1.5-7b"
    hub_id = "llava-hf/llava-1.5-7b-hf"
    gigabytes = 14.1
    save = save_llava
