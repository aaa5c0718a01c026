"""Preprocessing of images, ahead of the model where there are workers for it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import torch
from PIL.Image import Image

from lossylens_toolkit.transformers_vlm.family import Preprocessor
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage

#: Returns the picture, or raises what preprocessing raised.
Pending = Callable[[], PreparedImage]


class Preprocessing:
    """Turns images into pictures, in worker processes if there are any.

    Args:
        preprocess: of the family.
        workers: how many processes; with 0 it is done when the picture is needed.
    """

    def __init__(self, preprocess: Preprocessor, workers: int) -> None:
        self._preprocess = preprocess
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    @property
    def works_ahead(self) -> bool:
        """Whether there are workers."""
        return self._workers > 0

    def submit(self, image: Image, detail: Hashable) -> Pending:
        """Begin with *image*; the picture is had by calling what is returned."""
        if not self._workers:
            return lambda: self._preprocess(image, detail)
        if self._pool is None:
            # Forking a process that holds a GPU and threads is not safe.
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(self._preprocess,),
            )
        return _picture(self._pool.submit(_work, image, detail))

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _picture(pending: Future[tuple[Any, Layout]]) -> Pending:
    def get() -> PreparedImage:
        pixels, layout = pending.result()
        return PreparedImage(torch.from_numpy(pixels), layout)

    return get


_preprocess_here: Preprocessor


def _start(preprocess: Preprocessor) -> None:
    global _preprocess_here
    _preprocess_here = preprocess
    torch.set_num_threads(1)


def _work(image: Image, detail: Hashable) -> tuple[Any, Layout]:
    picture = _preprocess_here(image, detail)
    # As an array: a tensor would travel through shared memory that needs open files.
    return picture.pixels.numpy(), picture.layout
