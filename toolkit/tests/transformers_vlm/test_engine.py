"""The engine's parts: memory that runs out, lines, cache, attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.codec import SOURCE
from lossylens.vlm import Condition, Question, QuestionKind
from lossylens_toolkit.out_of_memory import is_out_of_memory
from lossylens_toolkit.transformers_vlm.attention import grouped_attention
from lossylens_toolkit.transformers_vlm.engine import Engine, Prompts, Shown, Suffix, distinct
from lossylens_toolkit.transformers_vlm.growing_cache import new_cache, selected
from lossylens_toolkit.transformers_vlm.memory import MemoryBudget
from lossylens_toolkit.transformers_vlm.vlm_testing import blocks
from torch.nn.functional import scaled_dot_product_attention

TEXTS = ("Is it?", "What?", "Where is it?")


@pytest.fixture
def asked(open_vlm):
    """A family and five images with a few questions each."""
    family = open_vlm("janus").family
    pictures = [family.preprocess(blocks(64, 64, seed), None) for seed in range(5)]
    prompts = [family.prompt(Question(QuestionKind.OPEN, text), 1) for text in TEXTS]
    rows = tuple(Suffix(list(family.texts(suffix)[0]), 5) for _, suffix in prompts)
    texts = tuple(family.texts(prompts[0][0])[:-1])
    shown = [Shown(picture, Condition(SOURCE, (64, 64))) for picture in pictures]
    return family, [Prompts((each,), texts, rows) for each in shown]


@pytest.mark.parametrize("images", [1, 2, 3])
def test_memory_that_runs_out_halves_the_batch(asked, images) -> None:
    family, items = asked
    expected = list(Engine(family).answer(items))
    sizes = []

    def limited(pictures, conditions):
        sizes.append(len(pictures))
        if len(pictures) > images:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return family.tower.encode(pictures)

    engine = Engine(family, limited)
    assert list(engine.answer(items)) == expected
    assert max(sizes) == 5
    # Later batches begin with what has worked.
    sizes.clear()
    assert list(engine.answer(items)) == expected
    assert max(sizes) < 5


def test_one_image_is_halved_by_questions_and_one_question_fails(asked, monkeypatch) -> None:
    family, items = asked
    head = family.head

    def limited(hidden):
        if len(hidden) > 1 or limited.never:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return head(hidden)

    limited.never = False
    expected = list(Engine(family).answer(items[:1]))
    monkeypatch.setattr(family, "head", limited)
    assert list(Engine(family).answer(items[:1])) == expected
    limited.never = True
    [failed] = Engine(family).answer(items[:1])
    assert {each.failure for each in failed} == {
        "the memory does not suffice for this question alone"
    }


def test_other_errors_are_not_taken_for_it(asked) -> None:
    family, items = asked

    def broken(pictures, conditions):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(Engine(family, broken).answer(items))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))


@pytest.mark.parametrize(("patches", "expected"), [(1, [1] * 5), (40, [2, 2, 1]), (999, [5])])
def test_a_cpu_encodes_few_patches_at_a_time(asked, monkeypatch, patches, expected) -> None:
    family, items = asked
    whole = list(Engine(family).answer(items))
    monkeypatch.setattr("lossylens_toolkit.transformers_vlm.memory._CPU_PATCHES", patches)
    shown = distinct(items)
    portions = list(MemoryBudget(family).encoded_at_once(shown))
    assert [each for portion in portions for each in portion] == shown
    assert [len(portion) for portion in portions] == expected
    assert list(Engine(family).answer(items)) == whole


def test_budget_grows_with_what_is_asked(asked) -> None:
    family, items = asked
    budget = MemoryBudget(family)
    needs = [budget.need(items[:count]) for count in (1, 2, 4)]
    assert needs == sorted(set(needs))
    assert MemoryBudget(family, needs[1]).allows(items[:2])
    assert not MemoryBudget(family, needs[1]).allows(items[:4])


@settings(max_examples=25, deadline=None)
@given(
    shared=st.integers(1, 3),
    groups=st.integers(1, 4),
    length=st.integers(1, 6),
    cached=st.integers(0, 7),
    seed=st.integers(0, 1000),
)
def test_grouped_attention_is_attention(shared, groups, length, cached, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, shared * groups, length, 8, generator=generator)
    key, value = torch.randn(2, 2, shared, cached + length, 8, generator=generator)
    mask = torch.rand(2, 1, length, cached + length, generator=generator) < 0.6
    mask[..., 0] = True
    repeated = (part.repeat_interleave(groups, 1) for part in (key, value))
    expected = scaled_dot_product_attention(query, *repeated, attn_mask=mask)
    actual, _ = grouped_attention(torch.nn.Module(), query, key, value, mask)
    torch.testing.assert_close(actual.transpose(1, 2), expected)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.integers(1, 90), min_size=1, max_size=6), drop=st.booleans())
def test_cache_holds_what_was_put_in(steps, drop) -> None:
    generator = torch.Generator().manual_seed(1)
    cache, held = new_cache(), torch.empty(3, 2, 0, 4)
    for step in steps:
        added = torch.randn(3, 2, step, 4, generator=generator)
        held = torch.cat((held, added), 2)
        keys, values = cache.update(added, -added, 0)
        assert torch.equal(keys, held)
        assert torch.equal(values, -held)
    copy = selected(cache, torch.tensor([2, 0, 0]))
    if drop:
        cache.batch_select_indices(torch.tensor([1]))
        keys, _ = cache.update(added[:1], added[:1], 0)
        assert torch.equal(keys, torch.cat((held[1:2], added[:1]), 2))
    assert torch.equal(copy.layers[0].keys, held[[2, 0, 0]])
