from __future__ import annotations

from lossylens.plugins import load_registry
from lossylens.toolkit.transformers_vlm.testing import blocks, save_internvl
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind

NAME = "internvl3-2b"


def test_without_a_checkpoint_it_says_what_to_download(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    registry = load_registry()
    found = registry.find("vlm", NAME)
    [missing] = registry.missing(found, registry.options(found))
    assert "OpenGVLab/InternVL3-2B-hf" in missing.what
    assert "hf download OpenGVLab/InternVL3-2B-hf (4.2 GB)" in missing.remedy


def test_answers_from_a_folder(tmp_path) -> None:
    """A tiny random checkpoint of the same architecture, through the registry."""
    save_internvl(tmp_path)
    registry = load_registry()
    found = registry.find("vlm", NAME)
    given = {
        "checkpoint": str(tmp_path),
        "device": "cpu",
        "max_tiles": 2,
    }
    vlm = registry.build_vlm(NAME, registry.options(found, given))
    question = Question(QuestionKind.YES_NO, "Is it?", task="pope", max_new_tokens=3)
    item = ImageQuestions(blocks(60, 80, 1), (question, question), Condition("", ""))
    [[first, second]] = vlm.answer([item])
    assert first.text is not None
    assert first == second
