from __future__ import annotations

from typing import ClassVar

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_internvl


class TestInternVL38B(PluginTests):
    name = "internvl3-8b"
    hub_id = "OpenGVLab/InternVL3-8B-hf"
    gigabytes = 15.9
    save = save_internvl
    options: ClassVar = {"max_tiles": 2}
