"""Registers ``transform-neck`` and ``post-processing``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.adaptor import AdaptorSpec
from lossylens.hookspecs import hookimpl

from lossylens_adaptor_transform_neck.options import NeckOptions, NeckTrainingOptions, missing

CITATION = "Kao et al., ICLR 2025, arXiv:2407.19651"


@hookimpl
def register_adaptors(register: Callable[[AdaptorSpec], None]) -> None:
    """Register both."""
    register(
        AdaptorSpec(
            name="transform-neck",
            summary="a codec's latents enter the vision encoder, and no picture is decoded",
            category="latents",
            factory="lossylens_adaptor_transform_neck.adaptor:NeckAdaptor",
            options=NeckOptions,
            trainer="lossylens_adaptor_transform_neck.training:NeckTrainer",
            training=NeckTrainingOptions,
            requirements=missing,
            citation=CITATION,
            licence="Apache-2.0",
        )
    )
