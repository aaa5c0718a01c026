from __future__ import annotations

import pickle

import pytest
from lossylens.errors import DataError
from lossylens_toolkit.tsv_task.tsv_table import TsvTable
from lossylens_toolkit.tsv_task.tsv_testing import write_tsv
from lossylens_toolkit.tsv_task.unusable import unusable


def test_an_index_that_is_there_already_is_preceded_by_its_part(tmp_path):
    rows = [{"index": 1, "part": "a"}, {"index": 1, "part": "b"}, {"index": 2, "part": "b"}]
    path = write_tsv(tmp_path / "t.tsv", *rows, columns=["index", "image", "part"])
    table = TsvTable(path, ("part",), part=lambda cells: cells["part"] or "")
    assert [row.id for row in table] == ["1", "b_1", "2"]
    assert "b_1" in table
    assert "a_1" not in table
    with pytest.raises(DataError, match="'1' is also that of row 1"):
        list(TsvTable(path, ("part",)))


def test_data_on_films_have_no_pictures(tmp_path):
    cells = {"index": 1, "film": "./one.mp4", "question": "?"}
    path = write_tsv(tmp_path / "t.tsv", cells, columns=["index", "film", "question"])
    [row] = TsvTable(path, ("question",), films="film")
    assert (row.id, row.text("film"), row.text("question")) == ("1", "./one.mp4", "?")
    with pytest.raises(DataError, match="film"):
        TsvTable(write_tsv(tmp_path / "u.tsv", {"question": "?"}), films="film")


def test_a_picture_that_stands_for_a_sample_that_cannot_be_asked():
    image = pickle.loads(pickle.dumps(unusable("7", DataError("row 7: mend it"))))
    with pytest.raises(DataError, match="row 7: mend it"):
        image.read()
    assert image.key != unusable("8", DataError("")).key
