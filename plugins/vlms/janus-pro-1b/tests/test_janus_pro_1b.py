from __future__ import annotations

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_janus


class TestJanusPro1B(PluginTests):
    name = "janus-pro-1b"
    hub_id = "deepseek-community/Janus-Pro-1B"
    gigabytes = 4.2
    save = save_janus
