"""Qwen-VL-Chat written down plainly, over tensors under their official names.

One image, one sequence, no cache, no module: what the package must agree with.
"""

from __future__ import annotations

import torch
from torch.nn import functional

EPS = 1e-6


def layer_norm(x, weights, name):
    mean = x.mean(-1, keepdim=True)
    variance = x.var(-1, unbiased=False, keepdim=True)
    scaled = (x - mean) / (variance + EPS).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def rms_norm(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()))


def attend(query, key, value, mask=None):
    """One head: (N, d) queries, (M, d) keys and values."""
    scores = query @ key.T / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ value


def positions(table, side):
    old = round(len(table) ** 0.5)
    grid = table.T.reshape(1, -1, old, old)
    grid = functional.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return grid.flatten(2)[0].T


def see(pixels, weights, heads, pool_heads):
    """Return (queries, D) for pixels (3, side, side)."""
    w = {n.removeprefix("transformer.visual."): t for n, t in weights.items() if "visual" in n}
    grid = functional.conv2d(pixels[None], w["conv1.weight"], stride=14)[0]
    side = grid.shape[-1]
    x = grid.flatten(1).T + positions(w["positional_embedding"], side)
    x = layer_norm(x, w, "ln_pre")
    layer = 0
    while f"transformer.resblocks.{layer}.ln_1.weight" in w:
        name = f"transformer.resblocks.{layer}"
        joint = linear(layer_norm(x, w, f"{name}.ln_1"), w, f"{name}.attn.in_proj")
        width = joint.shape[-1] // heads // 3
        mixed = []
        for head in range(heads):
            # Query, key and value of one head lie side by side.
            own = joint[:, head * 3 * width : (head + 1) * 3 * width]
            mixed.append(attend(*own.split(width, dim=1)))
        x = x + linear(torch.cat(mixed, 1), w, f"{name}.attn.out_proj")
        inner = functional.gelu(linear(layer_norm(x, w, f"{name}.ln_2"), w, f"{name}.mlp.c_fc"))
        x = x + linear(inner, w, f"{name}.mlp.c_proj")
        layer += 1
    return project(pool(x, w, pool_heads, side), w)


def pool(x, w, heads, side):
    value = layer_norm(x @ w["attn_pool.kv_proj.weight"].T, w, "attn_pool.ln_kv")
    key = value + positions(w["attn_pool.pos_embed"], side)
    query = layer_norm(w["attn_pool.query"], w, "attn_pool.ln_q") + w["attn_pool.pos_embed"]
    matrices = w["attn_pool.attn.in_proj_weight"].chunk(3)
    biases = w["attn_pool.attn.in_proj_bias"].chunk(3)
    projected = [
        (each @ matrix.T + bias).chunk(heads, dim=1)
        for each, matrix, bias in zip((query, key, value), matrices, biases, strict=True)
    ]
    mixed = [attend(*head) for head in zip(*projected, strict=True)]
    return linear(torch.cat(mixed, 1), w, "attn_pool.attn.out_proj")


def project(x, w):
    return layer_norm(x, w, "ln_post") @ w["proj"]


def rotate(x, base=10000.0):
    """Rotary positions 0, 1, ... for one head (N, d), halves rotated against each other."""
    length, width = x.shape
    angles = torch.arange(length)[:, None] * base ** (-torch.arange(0, width, 2) / width)
    first, second = x.chunk(2, dim=1)
    return torch.cat(
        (
            first * angles.cos() - second * angles.sin(),
            second * angles.cos() + first * angles.sin(),
        ),
        1,
    )


def logits(x, weights, heads):
    """Return the logits (V,) behind embeddings (N, D)."""
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    layer = 0
    while f"transformer.h.{layer}.ln_1.weight" in weights:
        name = f"transformer.h.{layer}"
        joint = linear(rms_norm(x, weights[f"{name}.ln_1.weight"]), weights, f"{name}.attn.c_attn")
        query, key, value = (part.chunk(heads, dim=1) for part in joint.chunk(3, dim=1))
        mixed = [
            attend(rotate(q), rotate(k), v, causal)
            for q, k, v in zip(query, key, value, strict=True)
        ]
        x = x + linear(torch.cat(mixed, 1), weights, f"{name}.attn.c_proj")
        given = rms_norm(x, weights[f"{name}.ln_2.weight"])
        gate = functional.silu(linear(given, weights, f"{name}.mlp.w2"))
        inner = linear(given, weights, f"{name}.mlp.w1") * gate
        x = x + linear(inner, weights, f"{name}.mlp.c_proj")
        layer += 1
    return rms_norm(x[-1], weights["transformer.ln_f.weight"]) @ weights["lm_head.weight"].T


def write_answer(prompt, features, pad, weights, heads, stop, limit):
    """Return the ids that greedy decoding writes, one token at a time."""
    ids = torch.tensor(prompt)
    x = weights["transformer.wte.weight"][ids].clone()
    x[ids == pad] = features
    written: list[int] = []
    while len(written) < limit:
        token = int(logits(x, weights, heads).argmax())
        if token in stop:
            break
        written.append(token)
        x = torch.cat((x, weights["transformer.wte.weight"][[token]]))
    return written
