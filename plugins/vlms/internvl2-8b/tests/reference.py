"""InternVL2 written down plainly, over tensors under their official names.

One sequence, no cache, no module: what the package must agree with.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def layer_norm(x, weights, name, eps=1e-6):
    scaled = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def rms_norm(x, weight, eps=1e-5):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()))


def attend(query, key, value, mask=None):
    """One head: (N, d) queries, (M, d) keys and values."""
    scores = query @ key.T / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ value


def see(tile, weights, heads):
    """Return (rows * columns / 4, D) for one tile (3, side, side)."""
    w = {name.removeprefix("vision_model."): each for name, each in weights.items()}
    patches = functional.conv2d(
        tile[None],
        w["embeddings.patch_embedding.weight"],
        w["embeddings.patch_embedding.bias"],
        stride=14,
    )[0]
    side = patches.shape[-1]
    x = torch.cat((w["embeddings.class_embedding"][0], patches.flatten(1).T))
    x = x + w["embeddings.position_embedding"][0]
    layer = 0
    while f"encoder.layers.{layer}.norm1.weight" in w:
        name = f"encoder.layers.{layer}"
        joint = linear(layer_norm(x, w, f"{name}.norm1"), w, f"{name}.attn.qkv")
        query, key, value = (part.chunk(heads, 1) for part in joint.chunk(3, 1))
        mixed = torch.cat([attend(*each) for each in zip(query, key, value, strict=True)], 1)
        x = x + linear(mixed, w, f"{name}.attn.proj") * w[f"{name}.ls1"]
        inner = functional.gelu(linear(layer_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.fc1"))
        x = x + linear(inner, w, f"{name}.mlp.fc2") * w[f"{name}.ls2"]
        layer += 1
    # Neighbours in a row, then rows below each other, side by side.
    wide = x[1:].reshape(side, side // 2, -1)
    tall = wide.transpose(0, 1).reshape(side // 2, side // 2, -1)
    tokens = tall.transpose(0, 1).reshape((side // 2) ** 2, -1)
    inner = functional.gelu(linear(layer_norm(tokens, w, "mlp1.0", 1e-5), w, "mlp1.1"))
    return linear(inner, w, "mlp1.3")


def rotate(x, base=1e6):
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


def logits(x, weights, heads, shared):
    """Return the logits (V,) behind embeddings (N, D)."""
    w = {name.removeprefix("language_model."): each for name, each in weights.items()}
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    layer = 0
    while f"model.layers.{layer}.ffn_norm.weight" in w:
        name = f"model.layers.{layer}"
        given = rms_norm(x, w[f"{name}.attention_norm.weight"])
        mixed = []
        for group in linear(given, w, f"{name}.attention.wqkv").chunk(shared, 1):
            # The queries of one key-value head, its key and its value.
            *queries, key, value = group.chunk(heads // shared + 2, 1)
            mixed += [attend(rotate(query), rotate(key), value, causal) for query in queries]
        x = x + linear(torch.cat(mixed, 1), w, f"{name}.attention.wo")
        given = rms_norm(x, w[f"{name}.ffn_norm.weight"])
        gate = functional.silu(linear(given, w, f"{name}.feed_forward.w1"))
        inner = gate * linear(given, w, f"{name}.feed_forward.w3")
        x = x + linear(inner, w, f"{name}.feed_forward.w2")
        layer += 1
    return rms_norm(x[-1], w["model.norm.weight"]) @ w["output.weight"].T


def write_answer(prompt, features, context, weights, heads, shared, stop, limit):
    """Return the ids that greedy decoding writes, one token at a time."""
    ids = torch.tensor(prompt)
    table = weights["language_model.model.tok_embeddings.weight"]
    x = table[ids].clone()
    x[ids == context] = features
    written: list[int] = []
    while len(written) < limit:
        token = int(logits(x, weights, heads, shared).argmax())
        if token == stop:
            break
        written.append(token)
        x = torch.cat((x, table[[token]]))
    return written
