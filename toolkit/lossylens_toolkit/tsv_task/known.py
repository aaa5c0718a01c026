"""Recognises the reference evaluator's files, so that a mix-up can be named."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lossylens.names import canonical


@dataclass(frozen=True, slots=True)
class Signature:
    """What a data set's file is recognised by.

    Attributes:
        name: of the data set.
        columns: that its file has and few others have.
        categories: words in its column ``category``.
    """

    name: str
    columns: frozenset[str]
    categories: frozenset[str] = frozenset()


def _signature(name: str, columns: str, categories: Iterable[str] = ()) -> Signature:
    return Signature(name, frozenset(columns.split()), frozenset(categories))


#: The data sets, those with the most telling columns first.
SIGNATURES = (
    _signature(
        "MMMU",
        "A B category l2-category",
        [
            "Art & Design",
            "Business",
            "Health & Medicine",
            "Humanities & Social Science",
            "Science",
            "Tech & Engineering",
        ],
    ),
    _signature("MMBench", "A B l2-category"),
    _signature("Video-MME", "video_path candidates duration"),
    _signature(
        "RefCOCO",
        "question category width height",
        [
            f"{name} {part}"
            for name, parts in (
                ("RefCOCO", ("val", "testA", "testB")),
                ("RefCOCO+", ("val", "testA", "testB")),
                ("RefCOCOg", ("val", "test")),
            )
            for part in parts
        ],
    ),
    _signature(
        "MME",
        "image_path question category",
        [
            "existence",
            "count",
            "position",
            "color",
            "posters",
            "celebrity",
            "scene",
            "landmark",
            "artwork",
            "OCR",
            "commonsense_reasoning",
            "numerical_calculation",
            "text_translation",
            "code_reasoning",
        ],
    ),
    _signature(
        "SEEDBench",
        "A B C D category",
        [
            "Instance Attributes",
            "Instance Identity",
            "Instance Interaction",
            "Instance Location",
            "Instances Counting",
            "Scene Understanding",
            "Spatial Relation",
            "Text Understanding",
            "Visual Reasoning",
        ],
    ),
    _signature("POPE", "question category", ["random", "popular", "adversarial"]),
    _signature("VQAv2", "question category", ["yes/no", "number", "other"]),
    _signature("GQA", "question category", ["choose", "compare", "logical", "query", "verify"]),
    _signature(
        "OCRBench",
        "question category",
        [
            "Regular Text Recognition",
            "Irregular Text Recognition",
            "Artistic Text Recognition",
            "Handwriting Recognition",
            "Digit String Recognition",
            "Non-Semantic Text Recognition",
            "Scene Text-centric VQA",
            "Doc-oriented VQA",
            "Key Information Extraction",
            "Handwritten Mathematical Expression Recognition",
        ],
    ),
)


def recognised(columns: Collection[str], category: str | None = None) -> str | None:
    """Return the name of the data set that a file is of, None if it cannot be told.

    Args:
        columns: of the file.
        category: what the column ``category`` holds in some row.
    """
    words = set((category or "").split(",")) | {category}
    for signature in SIGNATURES:
        if not signature.columns <= set(columns):
            continue
        if not signature.categories or words & signature.categories:
            return signature.name
        if category is None and len(signature.columns) > len({"question", "category"}):
            return signature.name
    return None


def mix_up(kind: str, columns: Collection[str], category: str | None = None) -> str:
    """Return a sentence that says what a file looks like, if not like *kind*."""
    name = recognised(columns, category)
    if name is None or canonical(name) == canonical(kind):
        return ""
    return f"This looks like a file of {name}."
