"""Muon for the matrices of the layers, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: Coefficients of the quintic Newton-Schulz iteration, from Jordan et al.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@torch.no_grad()
def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return about the nearest matrix whose singular values are all equal to 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(steps):
        square = x @ x.T
        x = a * x + torch.addmm(square, square, square, beta=b, alpha=c) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal (Jordan et al., Muon, 2024).

    torch.optim.Muon iterates in bfloat16, which a CPU without bfloat16 instructions does
    ten times slower than single precision.  Updates are scaled to those of AdamW (Liu et
    al., Muon is Scalable for LLM Training, arXiv:2502.16982), so both share a learning rate.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], weight_decay: float, momentum: float = 0.95
    ) -> None:
        defaults = {"lr": 1e-3, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(list(parameters), defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])
                scale = 0.2 * max(parameter.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonal(ahead), alpha=-group["lr"] * scale)


class MuonWithAdamW:
    """Two optimizers that are stepped as one."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> None:
        matrices, tables, vectors = [], [], []
        for name, parameter in parameters:
            if not parameter.requires_grad:
                continue
            if parameter.ndim <= 1:
                vectors.append(parameter)
            elif parameter.ndim == 2 and ("layers" in name or "blocks" in name):
                matrices.append(parameter)
            else:
                tables.append(parameter)
        groups = [
            {"params": tables, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(groups, betas=(0.9, 0.98)),
            Muon(matrices, weight_decay),
        )
        self.parameters = matrices + tables + vectors

    def step(self, loss: Tensor, rate: float, largest: float = 1.0) -> None:
        """Take one step down *loss* at learning *rate*, the gradient clipped to norm *largest*."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, largest)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of both."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take up *states*."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
