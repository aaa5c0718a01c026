"""Registers the adaptor ``cotam``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.adaptor import AdaptorSpec
from lossylens.hookspecs import hookimpl

from lossylens_adaptor_cotam.options import CotamAdaptorOptions, CotamTrainingOptions, missing


@hookimpl
def register_adaptors(register: Callable[[AdaptorSpec], None]) -> None:
    """Register ``cotam``."""
    register(
        AdaptorSpec(
            name="cotam",
            summary="a codec's latents, through one transformer block, added to patch embeddings",
            category="encoder",
            factory="lossylens_adaptor_cotam.adaptor:LatentFeatureAdaptor",
            options=CotamAdaptorOptions,
            trainer="lossylens_adaptor_cotam.training:CotamTrainer",
            training=CotamTrainingOptions,
            requirements=missing,
            citation="Liu et al., arXiv:2509.24258, ICLR 2026",
            licence="Apache-2.0",
        )
    )
