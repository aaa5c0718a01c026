from __future__ import annotations

from typing import ClassVar

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_internvl


class TestInternVL31B(PluginTests):
    name = "internvl3-1b"
    hub_id = "OpenGVLab/InternVL3-1B-hf"
    gigabytes = 1.9
    save = save_internvl
    options: ClassVar = {"max_tiles": 2}
