"""Rates per pixel of resized pictures, as papers count that code what the model would see.

CoTAM (Liu et al., arXiv:2509.24258) resizes pictures before they are coded and divides bits by
the pixels of that size.  Charts and tables count the pixels of the original; where a codec codes
squares, what it would be by the other count is said in a note and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lossylens.cells import Note
from lossylens.store import read_models
from lossylens.store.database import Store
from lossylens.store.read_models import GridCell


def resized_rates(store: Store, rows: Sequence[GridCell]) -> Iterator[Note]:
    """Yield for each task the rate of each codec that codes squares in bits per pixel of these.

    Args:
        store: of the run.
        rows: of its grid.
    """
    tasks = {row.task_key: row.task for row in rows}
    for key, label in tasks.items():
        codecs = {
            row.codec_key: row
            for row in rows
            if row.task_key == key and row.codec_made_of.get("square")
        }
        rates = []
        for codec, row in codecs.items():
            # A picture that several questions show counts once.
            bits = {
                each.image: 8 * each.size for each in read_models.encoded_images(store, key, codec)
            }
            pixels = row.codec_made_of["square"]["side"] ** 2
            if bits:
                mean = sum(bits.values()) / len(bits) / pixels
                rates.append(f"{row.codec} {row.level} {mean:.4f}")
        if rates:
            yield Note(
                f"{label}: bits per pixel of the square that is coded in place of the picture, as"
                " some papers count, not to be compared with the rates of tables and charts:"
                f" {', '.join(rates)}.",
                frozenset({label}),
            )
