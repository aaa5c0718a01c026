from __future__ import annotations

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_janus


class TestJanusPro7B(PluginTests):
    name = "janus-pro-7b"
    hub_id = "deepseek-community/Janus-Pro-7B"
    gigabytes = 14.8
    save = save_janus
