from __future__ import annotations

from typing import ClassVar

from lossylens_toolkit.transformers_vlm.plugin_tests import PluginTests
from lossylens_toolkit.transformers_vlm.vlm_testing import save_internvl


class TestInternVL32B(PluginTests):
    name = "internvl3-2b"
    hub_id = "OpenGVLab/InternVL3-2B-hf"
    gigabytes = 4.2
    save = save_internvl
    options: ClassVar = {"max_tiles": 2}
