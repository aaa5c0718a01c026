"""Registers InternVL2-8B; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lossylens.errors import RequirementError
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.checkpoint import find, lacking
from lossylens_toolkit.transformers_vlm.vlm_options import InternVLOptions, needs_gpus

from lossylens_vlm_internvl2_8b.files import checkpoint_files


@dataclass
class Options(InternVLOptions):
    """Options of InternVL2-8B.

    Attributes:
        checkpoint: hub id or folder of the official files.
    """

    checkpoint: str = "OpenGVLab/InternVL2-8B"


def missing(options: Options) -> Sequence[Missing]:
    """Return what of the checkpoint is not here."""
    try:
        checkpoint_files(find(options.checkpoint))
    except RequirementError as error:
        return (lacking(options.checkpoint, 16.2, error),)
    return ()


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register the model."""
    register(
        VlmSpec(
            name="internvl2-8b",
            summary="InternVL2-8B: InternViT and InternLM2, 8.1 billion parameters",
            category="open weights",
            factory="lossylens_vlm_internvl2_8b.vlm:InternVL2Vlm",
            options=Options,
            requirements=missing,
            parameters=8075,
            gpus=needs_gpus(),
            max_images=64,
            grounds=True,
            citation="Chen et al., How Far Are We to GPT-4V? Closing the Gap to Commercial "
            "Multimodal Models with Open-Source Suites, arXiv:2404.16821",
            licence="MIT; the language model: Apache-2.0",
        )
    )
