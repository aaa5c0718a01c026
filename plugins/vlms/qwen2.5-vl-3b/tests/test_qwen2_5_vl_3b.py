from __future__ import annotations

from lossylens.plugins import load_registry
from lossylens.toolkit.transformers_vlm.testing import blocks, save_qwen2_5_vl
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind

NAME = "qwen2.5-vl-3b"


def test_without_a_checkpoint_it_says_what_to_download(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    registry = load_registry()
    found = registry.find("vlm", NAME)
    [missing] = registry.missing(found, registry.options(found))
    assert "Qwen/Qwen2.5-VL-3B-Instruct" in missing.what
    assert "hf download Qwen/Qwen2.5-VL-3B-Instruct (7.5 GB)" in missing.remedy


def test_answers_from_a_folder(tmp_path) -> None:
    """A tiny random checkpoint of the same architecture, through the registry."""
    save_qwen2_5_vl(tmp_path)
    registry = load_registry()
    found = registry.find("vlm", NAME)
    given = {
        "checkpoint": str(tmp_path),
        "device": "cpu",
        "min_pixels": 56 * 56,
        "max_pixels": 112 * 112,
    }
    vlm = registry.build_vlm(NAME, registry.options(found, given))
    question = Question(QuestionKind.YES_NO, "Is it?", task="pope", max_new_tokens=3)
    item = ImageQuestions(blocks(60, 80, 1), (question, question), Condition("", ""))
    [[first, second]] = vlm.answer([item])
    assert first.text is not None
    assert first == second
