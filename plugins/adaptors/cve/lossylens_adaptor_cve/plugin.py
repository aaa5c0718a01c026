"""Registers the adaptor ``cve``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.adaptor import AdaptorSpec
from lossylens.hookspecs import hookimpl

from lossylens_adaptor_cve.options import CveOptions, CveTrainingOptions, missing


@hookimpl
def register_adaptors(register: Callable[[AdaptorSpec], None]) -> None:
    """Register ``cve``."""
    register(
        AdaptorSpec(
            name="cve",
            summary="vision encoder tuned so that compressed images look as the originals do",
            aliases=("conditional-vision-encoder",),
            category="encoder",
            factory="lossylens_adaptor_cve.adaptor:ConditionalVisionEncoder",
            options=CveOptions,
            trainer="lossylens_adaptor_cve.training:CveTrainer",
            training=CveTrainingOptions,
            requirements=missing,
            citation="arXiv:2512.20901, section 4",
            licence="Apache-2.0",
        )
    )
