from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("plotly")

from lossylens_report.sheets import MOST, WIDTH, sheet
from PIL import Image


def grey(value: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def test_images_are_laid_out_row_by_row():
    made = sheet([(number, grey(20 * number)) for number in range(1, 7)])
    assert made.width == WIDTH
    # Three columns, images not enlarged.
    centres = [
        [(WIDTH // 3 * column + 30, 44 * row + 30) for column in range(3)] for row in range(2)
    ]
    found = [made.getpixel(centre)[0] for row in centres for centre in row]
    assert found == [20, 40, 60, 80, 100, 120]


def test_large_images_are_scaled_down():
    made = sheet([(1, grey(50, (1000, 500))), (2, grey(90, (500, 1000)))])
    assert made.width == WIDTH
    assert made.height < WIDTH
    assert {50, 90} <= set(np.unique(np.asarray(made)))


def test_of_very_many_some_are_left_out_evenly():
    made = sheet([(number, grey(number % 200 + 30)) for number in range(4 * MOST)])
    values = {int(each) for each in np.unique(np.asarray(made)[..., 0])}
    assert {30 + 4 * place for place in range(MOST)} <= values
    assert 31 not in values
