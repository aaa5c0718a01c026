"""Prompts of models with a wording of their own, task by task, are the reference evaluator's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Question, QuestionKind, default_prompt
from lossylens_toolkit.transformers_vlm.families.internvl import TASK_TILES, InternVL
from lossylens_toolkit.transformers_vlm.wording import (
    internvl_wording,
    janus_wording,
    llava_wording,
)

TASKS = Path(__file__).parents[1] / "plugins" / "tasks"
WORDINGS: dict[str, Callable[[Question], str]] = {
    "generic": default_prompt,
    "qwen25vl": default_prompt,
    "internvl3": internvl_wording,
    "janus_pro": janus_wording,
}


@pytest.mark.parametrize(
    "name",
    [
        "chartqa",
        "coco-caption",
        "docvqa",
        "gqa",
        "mmbench",
        "mme",
        "ocrbench",
        "pope",
        "refcoco",
        "seedbench",
        "textvqa",
        "vqav2",
    ],
)
def test_prompts_are_the_evaluators(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))
    golden = TASKS / name.replace("-", "_") / "tests" / "golden"
    data = tmp_path / "data.tsv"
    data.write_bytes(gzip.decompress((golden / f"task-{name}.tsv.gz").read_bytes()))
    expected = json.loads((golden / f"task-{name}.expected.json").read_text())["prompts"]
    registry = load_registry()
    options = registry.options(registry.find("task", name), {"data": str(data)})
    seen = 0
    for sample in registry.build_task(name, options).samples():
        prompts = expected.get(sample.id, {})
        for model in WORDINGS.keys() & prompts.keys():
            assert f"<image>{WORDINGS[model](sample.question)}" == prompts[model], model
            seen += 1
        # The evaluator's code for LLaVA words multiple choice alone, and that as InternVL's.
        choice = sample.question.kind is QuestionKind.MULTIPLE_CHOICE
        if prompts:
            llava = prompts["internvl3" if choice else "generic"].replace("<image>\n", "<image>", 1)
            assert (
                f"<image>{llava_wording(sample.question)}" == prompts.get("llava", llava) == llava
            )
    assert seen == len(expected) * len(WORDINGS)


@pytest.mark.parametrize("subtitles", [False, True])
def test_prompts_on_films_are_the_evaluators(subtitles) -> None:
    """InternVL's authors number frames, and ask in words of their own."""
    golden = TASKS / "video-mme" / "tests" / "golden"
    recorded = json.loads((golden / "task-videomme.expected.json").read_text())["prompts"]
    suffix = "_subtitles" if subtitles else ""
    # What a family words needs nothing that it has loaded.
    family = InternVL.__new__(InternVL)
    for prompts in recorded.values():
        text = prompts[f"generic{suffix}"].replace("<image>", "")
        question = Question(QuestionKind.OPEN, text, task="video-mme")
        assert "<image>" * 8 + default_prompt(question) == prompts[f"generic{suffix}"]
        content = InternVL.content(family, question, 8)
        shown = "".join("<image>" if isinstance(part, int) else part for part in content)
        assert shown == prompts[f"internvl3{suffix}"]
        assert InternVL.content(family, question, 1)[:2] == ["Frame-1: ", 0]
    assert TASK_TILES["video-mme"] == 1


def test_what_the_golden_prompts_leave_out() -> None:
    bare = Question(QuestionKind.MULTIPLE_CHOICE, "Which?")
    assert internvl_wording(bare) == "\nWhich?\nAnswer the question directly."
    assert llava_wording(bare) == "Which?\nAnswer the question directly."
    assert janus_wording(bare) == "\nWhich?\nAnswer the question directly. "
    chinese = Question(QuestionKind.MULTIPLE_CHOICE, "哪一个?", options={"A": "一"})
    assert internvl_wording(chinese) == "\n哪一个?\nA. 一\n请直接回答选项字母。"
    assert llava_wording(chinese) == "哪一个?\nA. 一\n请直接回答选项字母。"
