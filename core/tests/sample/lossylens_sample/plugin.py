"""Registers codec ``blocky``, VLM ``seer``, task ``patches`` and adaptor ``darken``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lossylens.adaptor import AdaptorSpec
from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec
from lossylens.vlm import VlmSpec


@dataclass
class BlockyOptions:
    offset: int = 0


@dataclass
class SeerOptions:
    salt: int = 0
    batch_images: int = 3


@dataclass
class PatchesOptions:
    images: int = 6
    questions: int = 4
    seed: int = 1
    broken: int = 0
    troubles: str = ""


@dataclass
class DarkenOptions:
    by: int = 2
    spares: str = ""


def parse_level(name: str) -> Level | None:
    found = re.fullmatch("b([0-9]+)", name)
    return Level(name, {"step": int(found[1])}) if found else None


@hookimpl
def register_codecs(register):
    register(
        CodecSpec(
            name="blocky",
            summary="quantises samples",
            factory="lossylens_sample.codec:Blocky",
            aliases=("blk",),
            levels=(Level("b64", {"step": 64}), Level("b16", {"step": 16})),
            parse_level=parse_level,
            level_help="bN",
            level_sets={"for-patches": ("b16", "b4")},
            options=BlockyOptions,
        )
    )


@hookimpl
def register_vlms(register):
    register(
        VlmSpec(
            name="seer",
            summary="answers depend on pixels",
            factory="lossylens_sample.vlm:Seer",
            options=SeerOptions,
            parameters=0,
        )
    )


@hookimpl
def register_tasks(register):
    register(
        TaskSpec(
            name="patches",
            summary="noise",
            factory="lossylens_sample.task:Patches",
            options=PatchesOptions,
            primary=Primary("right", 0, 100),
        )
    )


@hookimpl
def register_adaptors(register):
    register(
        AdaptorSpec(
            name="darken",
            summary="shows darker pictures",
            factory="lossylens_sample.vlm:Darken",
            options=DarkenOptions,
        )
    )
