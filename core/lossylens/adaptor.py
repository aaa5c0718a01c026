"""The adaptor contract: methods that make a VLM robust to compression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lossylens.spec import PluginSpec
from lossylens.vlm import Vlm


@dataclass(frozen=True, kw_only=True)
class AdaptorSpec(PluginSpec):
    """Declaration of an adaptation method.

    The factory is called as ``factory(options)``.
    """

    kind: ClassVar[str] = "adaptor"


class Adaptor(ABC):
    """A method that adapts a VLM to compressed images."""

    @abstractmethod
    def train(self, vlm: Vlm, data: Any, checkpoint: Path) -> None:
        """Train on *data* and write *checkpoint* (safetensors and JSON).

        The JSON names VLM, codecs, levels, data and seed.
        """

    @abstractmethod
    def attach(self, vlm: Vlm) -> Vlm:
        """Return a VLM of the same contract with the adaptation in place.

        Raises:
            ConfigError: the checkpoint was trained for another VLM.
        """
