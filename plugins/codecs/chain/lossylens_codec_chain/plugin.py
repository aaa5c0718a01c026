"""Registers chains; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens.spec import MANDATORY, Missing


@dataclass
class ChainOptions:
    """Options of a chain.

    Attributes:
        steps: what is done to a picture one after the other, such as
            ``[{jpeg: q85}, {scale: {longest: 1024}}, {webp: }]``: codecs with their level, or
            with a mapping of their options and ``level``, and ``scale`` with the most pixels of
            the ``longest`` or ``shortest`` side or of the picture (``pixels``).  The step
            without a level is the one that the levels of the chain vary.
        restore: scale decoded pictures back to the size of the original, for which 8 bytes of
            the bitstream hold that size; without it they are left as small as they were sent.
    """

    steps: list[Any] = field(default=cast("list[Any]", MANDATORY))
    restore: bool = False


def _compose(options: Any, registry: Any, where: str) -> tuple[CodecSpec, Any]:
    from lossylens_codec_chain.composing import compose

    return compose(SPEC, options, registry, where)


def _missing(options: Any) -> Sequence[Missing]:
    """Return what the codecs of the steps lack, which was found out when it was composed."""
    return tuple(getattr(options, "lacking", ()))


SPEC = CodecSpec(
    name="chain",
    summary="codecs and scaling one after the other, as pictures are uploaded",
    factory="lossylens_codec_chain.codec:Chain",
    category="composed",
    licence="Apache-2.0",
    options=ChainOptions,
    requirements=_missing,
    levels=(),
    compose=_compose,
)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register chains."""
    register(SPEC)
