import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# The learned codec that is as small as one can be lies among the tests of its toolkit.
sys.path.append(str(Path(__file__).parents[1] / "neural_codec"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Smooth pictures of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(5)
    for number, size in enumerate([(150, 100), (90, 140), (40, 30)]):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(
            folder / f"{number}.png"
        )
    return folder
