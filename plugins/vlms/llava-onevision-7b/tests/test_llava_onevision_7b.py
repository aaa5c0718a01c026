from __future__ import annotations

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_llava_onevision


class TestLlavaOnevision7B(PluginTests):
    name = "llava-onevision-7b"
    hub_id = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    gigabytes = 16.1
    save = save_llava_onevision


class TestLlavaOnevision05B(PluginTests):
    name = "llava-onevision-0.5b"
    hub_id = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
    gigabytes = 1.8
    save = save_llava_onevision
