"""Measures of a vision encoder's layers, on attention whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lossylens_toolkit.layer_analysis.layer_metrics import (
    attention_flow,
    principal_maps,
    similarities,
)
from lossylens_toolkit.layer_analysis.stages import Stages, find_stages

ROWS, COLUMNS = 3, 4
TOKENS = ROWS * COLUMNS
DIAGONAL = math.hypot(ROWS - 1, COLUMNS - 1)


def flow(attention):
    """Of one tile with two heads."""
    return attention_flow(np.stack([attention, attention])[None], ROWS, COLUMNS)


def places():
    return np.array([(row, column) for row in range(ROWS) for column in range(COLUMNS)])


def test_attention_to_oneself():
    found = flow(np.eye(TOKENS))
    assert found.distance == 0
    for anchoring in (found.inflow, found.outflow):
        assert anchoring.at.tolist() == [list(range(TOKENS))]
        assert (anchoring.to_class, anchoring.targets, anchoring.distance) == (0, TOKENS, 0)


def test_uniform_attention():
    found = flow(np.full((TOKENS, TOKENS), 1 / TOKENS))
    gaps = np.linalg.norm(places()[:, None] - places(), axis=-1)
    assert found.distance == pytest.approx(gaps.mean() / DIAGONAL)
    assert found.received == pytest.approx(np.full((1, ROWS, COLUMNS), 1 / TOKENS))


def test_attention_to_one_token():
    attention = np.full((TOKENS, TOKENS), 0.01)
    attention[:, 5] = 0.5
    # The last token gives it the most.
    attention[11, 5] = 0.6
    attention /= attention.sum(-1, keepdims=True)
    found = flow(attention)
    expected = np.linalg.norm(places() - places()[5], axis=-1).mean() / DIAGONAL
    assert found.inflow.distance == pytest.approx(expected)
    assert found.inflow.targets == 1
    assert set(found.inflow.at.ravel()) == {5}
    assert found.inflow.distances[0, 1, 1] == 0
    assert found.outflow.at[0, 5] == 11


def test_inflow_is_not_the_average():
    # Half of the attention goes to the neighbour on the right, a tenth to each of five others.
    attention = np.zeros((TOKENS, TOKENS))
    attention[0, [1, 5, 6, 7, 10, 11]] = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    attention[np.arange(1, TOKENS), np.arange(1, TOKENS)] = 1
    found = flow(attention)
    assert found.inflow.distance == pytest.approx(1 / DIAGONAL / TOKENS)
    gaps = np.linalg.norm(places() - places()[0], axis=-1)
    assert found.distance == pytest.approx(float(attention[0] @ gaps) / DIAGONAL / TOKENS)
    # The first token takes most from the second, which gives most to itself.
    assert found.inflow.at[0, 0] == found.outflow.at[0, 1] == 1
    assert found.inflow.targets == TOKENS - 1


def test_class_tokens_are_sources_and_targets():
    chance = np.random.default_rng(1)
    weights = chance.random((2, 3, TOKENS + 1, TOKENS + 1))
    weights[0, :, 1:5, 0] = 3  # four patches of the first tile take most from it
    weights[1, :, 0, 7] = 3  # and one of the second gives most to it
    weights /= weights.sum(-1, keepdims=True)
    mean = weights.mean(1)
    found = attention_flow(weights, ROWS, COLUMNS)
    sources = mean[:, 1:].argmax(-1) - 1
    assert found.inflow.at.tolist() == sources.tolist()
    assert found.outflow.at.tolist() == (mean[:, :, 1:].argmax(1) - 1).tolist()
    assert (sources[0, :4] == -1).all()
    assert found.outflow.at[1, 6] == -1
    assert found.inflow.to_class == pytest.approx((sources < 0).mean())
    assert found.inflow.targets == np.mean([len(set(tile)) for tile in sources.tolist()])
    assert np.isnan(found.inflow.distances[0].ravel()[:4]).all()
    gaps = np.linalg.norm(places()[:, None] - places(), axis=-1) / DIAGONAL
    known = [[gaps[q, k] for q, k in enumerate(tile) if k >= 0] for tile in sources]
    # The mean over tiles, not over the patches of all: the first has four fewer.
    assert found.inflow.distance == pytest.approx(np.mean([np.mean(tile) for tile in known]))
    assert found.received.ravel() == pytest.approx(mean[:, 0, 1:].ravel())
    # The average distance does not depend on what class tokens are given or give.
    weights[:, :, 0] = 1 / (TOKENS + 1)
    assert attention_flow(weights, ROWS, COLUMNS).distance == found.distance


def test_without_a_source_among_the_patches_there_is_no_distance():
    weights = np.zeros((1, 1, TOKENS + 1, TOKENS + 1))
    weights[..., 0] = 1
    found = attention_flow(weights, ROWS, COLUMNS)
    assert (found.inflow.to_class, found.inflow.targets) == (1, 1)
    assert math.isnan(found.inflow.distance)


def test_stages():
    # Wide, then near with many targets, then wide with few.
    near = [0.5, 0.48, 0.2, 0.22, 0.21, 0.4, 0.41]
    many = [90, 95, 100, 98, 99, 12, 10]
    assert find_stages(near, many) == Stages((0, 2, 5), as_published=True)
    # No nearer in the middle: three stages as well, but others.
    assert find_stages([0.3] * 7, many) == Stages((0, 1, 5), as_published=False)
    assert find_stages(near[:5], many[:5]) is None


def test_similarities():
    states = np.random.default_rng(1).normal(size=(5, 8))
    assert similarities(states, 3 * states) == pytest.approx([1] * 5)
    turned = states.copy()
    turned[0] *= -1
    assert similarities(states, turned) == pytest.approx([-1, 1, 1, 1, 1])
    assert similarities(states, np.zeros_like(states)).tolist() == [0] * 5


def test_principal_maps_are_those_of_the_original():
    chance = np.random.default_rng(1)
    scores = chance.normal(size=(50, 3))
    # Uncorrelated, so that the components are exactly these.
    scores = np.linalg.qr(scores - scores.mean(axis=0))[0] * [90, 30, 10]
    basis = np.linalg.qr(chance.normal(size=(16, 16)))[0][:3]
    states = scores @ basis + 4
    first, same, moved = principal_maps(states, [states, states + 100 * basis[0]])
    assert first.shape == (50, 3)
    assert first.tolist() == same.tolist()
    for component in range(3):
        together = np.corrcoef(first[:, component], scores[:, component])[0, 1]
        assert abs(together) > 0.98
    # A shift along the first component shows in the first colour alone.
    assert set(moved[:, 0].tolist()) in ({0}, {255})
    assert np.abs(moved[:, 1:].astype(int) - first[:, 1:]).max() <= 1


def test_few_tokens_have_colours_too():
    (found,) = principal_maps(np.array([[1.0, 2.0], [3.0, 5.0]]), [])
    assert found.shape == (2, 3)
