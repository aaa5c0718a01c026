"""The auxiliary encoder of StableCodec: ELIC's analysis transform.

He et al., "ELIC: Efficient Learned Image Compression with Unevenly Grouped Space-Channel
Contextual Adaptive Coding", CVPR 2022, in the spelling of ``elic_official.pth``.
"""

from __future__ import annotations

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """A residual bottleneck block."""

    def __init__(self, channels: int, name: str = "branch") -> None:
        super().__init__()
        inside = channels // 2
        self.layers = name
        layers = nn.Sequential(
            nn.Conv2d(channels, inside, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inside, inside, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inside, channels, 1),
        )
        self.add_module(name, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        return x + getattr(self, self.layers)(x)


class _Unit(Bottleneck):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, "conv")

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Attention(nn.Module):
    """Simplified attention: one branch, weighted by another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(*(_Unit(channels) for _ in range(3)))
        last = nn.Conv2d(channels, channels, 1)
        self.conv_b = nn.Sequential(*(_Unit(channels) for _ in range(3)), last)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        return x + self.conv_a(x) * self.conv_b(x).sigmoid()


class AuxiliaryEncoder(nn.Module):
    """From pictures in 0..1 to features, at a sixteenth of their size.

    Args:
        width: channels inside.
        outputs: channels of the features.
    """

    def __init__(self, width: int = 192, outputs: int = 320) -> None:
        super().__init__()

        def stage(inputs: int) -> list[nn.Module]:
            halving = nn.Conv2d(inputs, width, 5, 2, padding=2)
            return [halving, *(Bottleneck(width) for _ in range(3))]

        self.analysis_transform = nn.Sequential(
            *stage(3),
            *stage(width),
            Attention(width),
            *stage(width),
            nn.Conv2d(width, outputs, 5, 2, padding=2),
            Attention(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, outputs, H/16, W/16)``."""
        return self.analysis_transform(x)
