"""Registers the adaptor ``restore``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.adaptor import AdaptorSpec
from lossylens.hookspecs import hookimpl

from lossylens_adaptor_restore.options import RestoreOptions, RestoreTrainingOptions, missing


@hookimpl
def register_adaptors(register: Callable[[AdaptorSpec], None]) -> None:
    """Register ``restore``."""
    register(
        AdaptorSpec(
            name="restore",
            summary="repairs the picture before the VLM sees it, which stays as it is",
            category="picture",
            factory="lossylens_adaptor_restore.adaptor:Restorer",
            options=RestoreOptions,
            trainer="lossylens_adaptor_restore.training:RestoreTrainer",
            training=RestoreTrainingOptions,
            requirements=missing,
            citation="Nosratinia 2001, doi:10.1023/A:1008167430544, for the method shifts",
            licence="Apache-2.0",
        )
    )
