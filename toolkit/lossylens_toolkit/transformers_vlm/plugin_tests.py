"""The tests of a VLM plugin that configures one of the architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lossylens.registry.plugins import load_registry
from lossylens.testing.vlm_conformance import VlmConformance
from lossylens.vlm import Question, QuestionKind

from lossylens_toolkit.transformers_vlm.vlm_testing import about, blocks


class PluginTests(VlmConformance):
    """The conformance suite on a tiny checkpoint, and what is the same for these plugins.

    A module of tests derives a class from it, whose name starts with ``Test``.

    Attributes:
        name: of the VLM.
        hub_id: of its checkpoint.
        gigabytes: of the download.
        save: writes a tiny checkpoint of its architecture.
        options: that suit the tiny checkpoint.
    """

    name: ClassVar[str]
    hub_id: ClassVar[str]
    gigabytes: ClassVar[float]
    save: ClassVar[Callable[[Path], None]]
    options: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        cls.vlms = (cls.name,)

    @pytest.fixture(scope="class")
    @classmethod
    def plugin_options(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        """The options, with a tiny random checkpoint of the same architecture."""
        folder = tmp_path_factory.mktemp("checkpoint")
        cls.save(folder)
        return {"checkpoint": str(folder), "device": "cpu", **cls.options}

    def test_without_a_checkpoint_it_says_what_to_download(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The hub id and the size of the download."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        registry = load_registry()
        found = registry.find("vlm", self.name)
        [missing] = registry.missing(found, registry.options(found))
        assert self.hub_id in missing.what
        assert f"hf download {self.hub_id} ({self.gigabytes} GB)" in missing.remedy

    def test_every_image_is_looked_at(self, plugin_options: Mapping[str, Any]) -> None:
        """Several take more of the prompt than one, if it is said to take them."""
        registry = load_registry()
        found = registry.find("vlm", self.name)
        vlm = registry.build_vlm(self.name, registry.options(found, plugin_options))
        question = Question(QuestionKind.YES_NO, "Is it?", task="pope", max_new_tokens=3)
        several = [blocks(60, 80, seed) for seed in range(min(found.spec.max_images, 3))]
        [[one], [more]] = vlm.answer([about(blocks(60, 80, 1), question), about(several, question)])
        assert more.usage["input_tokens"] > one.usage["input_tokens"] or len(several) == 1
