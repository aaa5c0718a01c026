"""Registers ``transform-neck`` and ``post-processing``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.adaptor import AdaptorSpec
from lossylens.hookspecs import hookimpl

from lossylens_adaptor_transform_neck.options import (
    NeckOptions,
    NeckTrainingOptions,
    PostOptions,
    PostTrainingOptions,
    missing,
    missing_post,
)

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
    register(
        AdaptorSpec(
            name="post-processing",
            summary="a U-Net repairs the picture so that the encoder sees what it saw before",
            category="picture",
            factory="lossylens_adaptor_transform_neck.post_processing:PostProcessor",
            options=PostOptions,
            trainer="lossylens_adaptor_transform_neck.post_training:PostTrainer",
            training=PostTrainingOptions,
            requirements=missing_post,
            citation=f"baseline of {CITATION}; Ronneberger et al. 2015, arXiv:1505.04597",
            licence="Apache-2.0",
        )
    )
