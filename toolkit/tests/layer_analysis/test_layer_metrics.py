"""Measures of a vision encoder's layers, on attention whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lossylens_toolkit.layer_analysis.layer_metrics import (
    attention_flow,
    principal_maps,
    token_similarity,
)

ROWS, COLUMNS = 3, 4
TOKENS = ROWS * COLUMNS
DIAGONAL = math.hypot(ROWS - 1, COLUMNS - 1)


def flow(attention, extra=0):
    """Of one tile with two heads."""
    return attention_flow(np.stack([attention, attention])[None], ROWS, COLUMNS)


def places():
    return np.array([(row, column) for row in range(ROWS) for column in range(COLUMNS)])


def test_attention_to_oneself():
    found = flow(np.eye(TOKENS))
    assert (found.distance, found.most_attended, found.mixing) == (0, 0, 0)
    assert found.inflow.tolist() == found.outflow.tolist() == np.zeros((1, ROWS, COLUMNS)).tolist()
    assert found.concentration == 0


def test_uniform_attention():
    found = flow(np.full((TOKENS, TOKENS), 1 / TOKENS))
    gaps = np.linalg.norm(places()[:, None] - places(), axis=-1)
    assert found.distance == pytest.approx(gaps.mean() / DIAGONAL)
    assert found.mixing == pytest.approx(1 - 1 / TOKENS)
    # All give alike: one token of twelve is the tenth that gives most.
    assert found.concentration == pytest.approx(1 / TOKENS)


def test_attention_to_one_token():
    attention = np.zeros((TOKENS, TOKENS))
    attention[:, 5] = 1
    found = flow(attention)
    expected = np.linalg.norm(places() - places()[5], axis=-1).mean() / DIAGONAL
    assert found.distance == pytest.approx(expected)
    assert found.most_attended == pytest.approx(expected)
    assert found.concentration == 1
    assert found.outflow[0, 1, 1] == TOKENS - 1
    assert found.outflow.sum() == TOKENS - 1
    assert found.inflow[0, 1, 1] == 0


def test_most_attended_is_not_the_average():
    # Half of the attention goes to the neighbour on the right, a tenth to each of five others.
    attention = np.zeros((TOKENS, TOKENS))
    attention[0, [1, 5, 6, 7, 10, 11]] = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    attention[np.arange(1, TOKENS), np.arange(1, TOKENS)] = 1
    found = flow(attention)
    assert found.most_attended == pytest.approx(1 / DIAGONAL / TOKENS)
    gaps = np.linalg.norm(places() - places()[0], axis=-1)
    assert found.distance == pytest.approx(float(attention[0] @ gaps) / DIAGONAL / TOKENS)


def test_what_flows_in_flows_out_and_class_tokens_are_left_out():
    chance = np.random.default_rng(1)
    weights = chance.random((2, 3, TOKENS + 1, TOKENS + 1)) ** 4
    weights /= weights.sum(-1, keepdims=True)
    found = attention_flow(weights, ROWS, COLUMNS)
    assert found.inflow.shape == found.outflow.shape == (2, ROWS, COLUMNS)
    assert found.inflow.sum() == pytest.approx(found.outflow.sum(), rel=1e-5)
    # Whatever goes to and from the class token does not matter.
    other = weights.copy()
    other[:, :, 0] = chance.random(weights[:, :, 0].shape)
    again = attention_flow(other, ROWS, COLUMNS)
    assert again.distance == found.distance
    mean = weights.mean(1)[:, 1:, 1:]
    mean /= mean.sum(-1, keepdims=True)
    assert found.outflow[1, 2, 3] == pytest.approx(mean[1, :, 11].sum() - mean[1, 11, 11])


def test_token_similarity():
    states = np.random.default_rng(1).normal(size=(5, 8))
    assert token_similarity(states, 3 * states) == pytest.approx(1)
    assert token_similarity(states, -states) == pytest.approx(-1)
    turned = states.copy()
    turned[0] *= -1
    assert token_similarity(states, turned) == pytest.approx(0.6)
    assert token_similarity(states, np.zeros_like(states)) == 0


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
