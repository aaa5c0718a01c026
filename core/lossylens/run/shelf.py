"""What was measured before and need not be measured again: values, and features of images.

A value is of one encoding.  Features are what a metric of whole sets of images is made of,
one entry for each image of a codec, and one for its original.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossylens.errors import StoreError
from lossylens.grid.config import Config
from lossylens.registry.fidelity import Fidelity
from lossylens.store.jsonable import short_hash
from lossylens.store.sharing import SharedBitstreams

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


@dataclass(frozen=True)
class Shelf:
    """Values and features that are there already.

    Attributes:
        values: of other runs; None to share none.
        features: of this run and others.
        parity: whether the originals are those of ``run.evaluator_parity``.
    """

    values: SharedBitstreams | None
    features: SharedBitstreams
    parity: bool

    @classmethod
    def of(cls, config: Config) -> Shelf:
        """Return that of a run: in ``run.cache``, or else features alone in the run folder."""
        run = config.run
        if run.cache is None:
            shared = SharedBitstreams(run.out, "features", "run.out")
            return cls(None, shared, run.evaluator_parity)
        return cls(
            SharedBitstreams(run.cache, "fidelity"),
            SharedBitstreams(run.cache, "features"),
            run.evaluator_parity,
        )

    def found(self, codec: str, image: str, metrics: Iterable[Fidelity]) -> dict[str, float]:
        """Return the values that other runs have measured, by metric."""
        stored = self._stored(codec, image)
        return {
            each.name: float(stored[each.name][1])
            for each in metrics
            if each.name in stored and stored[each.name][0] == each.method
        }

    def share(self, codec: str, image: str, values: Mapping[Fidelity, float]) -> None:
        """Add values to what other runs can use; of two that add at once, one is lost."""
        if self.values is not None and values:
            fresh = {metric.name: [metric.method, value] for metric, value in values.items()}
            entry = json.dumps(self._stored(codec, image) | fresh).encode()
            self.values.put(codec, image, entry)

    def _stored(self, codec: str, image: str) -> dict[str, Any]:
        """Return method and value by metric."""
        entry = self.values.get(codec, image) if self.values else None
        return dict(json.loads(entry)) if entry else {}

    def keep_features(
        self,
        metric: Fidelity,
        codec: str,
        image: str,
        pictures: tuple[Image, Image],
        features: Callable[[Image], NDArray[Any]],
    ) -> None:
        """Keep the features of an original and of what a codec made of it."""
        for key, picture in zip(self._keys(metric, codec), pictures, strict=True):
            if self.features.get(key, image) is None:
                self.features.put(key, image, features(picture).tobytes())

    def has_features(self, metric: Fidelity, codec: str, image: str) -> bool:
        """Whether those of an image and of its original are there."""
        return all(self.features.get(key, image) is not None for key in self._keys(metric, codec))

    def feature_sets(
        self, metric: Fidelity, codec: str, images: Sequence[str]
    ) -> list[NDArray[Any]]:
        """Return the features of the originals and of the decoded images, a row each.

        Raises:
            StoreError: some are gone.
        """
        import numpy as np

        sets = []
        for key in self._keys(metric, codec):
            found = [self.features.get(key, image) for image in images]
            if None in found:
                raise StoreError("features are gone from run.cache; run the same command again")
            sets.append(np.stack([np.frombuffer(each or b"", np.float32) for each in found]))
        return sets

    def _keys(self, metric: Fidelity, codec: str) -> tuple[str, str]:
        """Return where features of the originals are, and those of a codec."""
        # What a codec's key says, the original's does not.
        original = ["original", self.parity]
        return short_hash([metric.method, original]), short_hash([metric.method, codec])
