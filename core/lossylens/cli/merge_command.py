"""``lossylens merge``: shares of a run become one run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Run folders of one configuration.")
    ],
    out: Annotated[
        Path, typer.Option(help="Run folder that they are joined into; made if it is not there.")
    ],
) -> None:
    """Join run folders of shares (`lossylens run --shard`) into one.

    Results that are merged already stay as they are; a failure gives way to a result.  Start
    the run without --shard afterwards: it does what is left, and scores.
    """
    from lossylens.store.merging import merge as join

    encodings, answers = join(out, folders)
    print(f"{out}: {encodings} encodings, {answers} answers")
