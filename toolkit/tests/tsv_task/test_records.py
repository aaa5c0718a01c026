"""The dialect, checked by name and against pandas."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.errors import DataError
from lossylens_toolkit.tsv_task.tsv_records import RecordReader, split_cells


def read(data: bytes, limit: int = 2**20) -> list[list[str]]:
    reader = RecordReader(io.BytesIO(data), limit=limit)
    records = []
    while (record := reader.read()) is not None:
        records.append(split_cells(record.whole))
    return records


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\tb\n1\t2\n", [["a", "b"], ["1", "2"]]),
        (b"a\tb\n1\t2", [["a", "b"], ["1", "2"]]),
        (b"a\tb\r\n1\t2\r\n", [["a", "b"], ["1", "2"]]),
        (b"a\tb\r1\t2\r", [["a", "b"], ["1", "2"]]),
        (b"\xef\xbb\xbfa\tb\n", [["a", "b"]]),
        (b"\n  \na\n \n\nb\n", [["a"], ["b"]]),
        (b"\t\n", [["", ""]]),
        (b'"a\tb"\t"c\nd"\n', [["a\tb", "c\nd"]]),
        (b'"a\r\nb"\tc\r\n', [["a\r\nb", "c"]]),
        (b'"say ""hi"""\tx\n', [['say "hi"', "x"]]),
        (b'a"b"\tc\n', [['a"b"', "c"]]),
        (b'"a"b"c\td\n', [['ab"c', "d"]]),
        (b'""\t""""\n', [["", '"']]),
        ('é\t"日本"\n'.encode(), [["é", "日本"]]),
        (b"", []),
        (b"\n\n", []),
    ],
)
def test_dialect(data, expected):
    assert read(data) == expected


def test_positions_let_a_cell_be_read_again():
    data = b'h\n\n"x\n""y"\tplain\r1\t"tail"\n'
    reader = RecordReader(io.BytesIO(data))
    found = []
    while (record := reader.read()) is not None:
        first = record.cells[0][0]
        for start, stop in record.cells:
            position = record.offset + start - first
            found.append(data[position : position + stop - start])
    assert found == [b"h", b'"x\n""y"', b"plain", b"1", b'"tail"']


def test_reading_goes_on_where_it_stopped():
    data = b'a\tb\n"1\n"\t2\n\n3\t4\r5\t6\n'
    whole = read(data)
    pieces, offset = [], 0
    while (record := RecordReader(io.BytesIO(data), offset).read()) is not None:
        pieces.append(split_cells(record.whole))
        offset = record.end
    assert pieces == whole


def test_a_quote_that_is_not_closed_is_an_error():
    with pytest.raises(DataError, match="quote opened at byte 4 is not closed"):
        read(b'a\tb\n"1\t2\n3\t4\n')


@pytest.mark.parametrize("data", [b"x" * 200, b'"' + b"x\n" * 100 + b'"'])
def test_an_endless_record_is_an_error(data):
    with pytest.raises(DataError, match="longer than 100 bytes"):
        read(data, limit=100)


@given(st.lists(st.sampled_from([b"a", b"\t", b"\n", b"\r", b'"', b" ", b"\xc3\xa9"])))
def test_any_bytes_are_records_or_a_data_error(pieces):
    try:
        records = read(b"".join(pieces))
    except DataError:
        return
    assert all(records)


# No lone carriage returns: pandas swallows a tab or repeats rows beside blank lines.
@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["a", "\t", "\n", "\r\n", '"', " ", "é"]), min_size=1))
def test_any_text_is_read_as_by_pandas(pieces):
    pandas = pytest.importorskip("pandas")
    # A header wider than all rows: pandas gives a narrow one a meaning of its own.
    width = 12
    data = ("\t".join(f"c{i}" for i in range(width)) + "\n" + "".join(pieces)).encode()
    try:
        frame = pandas.read_csv(
            io.BytesIO(data), sep="\t", dtype=str, keep_default_na=False, index_col=False
        )
    except pandas.errors.ParserError:
        return
    rows = [["" if cell != cell else cell for cell in row] for row in frame.values.tolist()]
    try:
        ours = [row + [""] * (width - len(row)) for row in read(data)[1:]]
    except DataError:
        # pandas reads a quoted cell that the end of the file cuts off, or not.
        return
    assert ours == rows


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=3, max_size=3),
        min_size=1,
    )
)
def test_what_pandas_writes_is_read_back(rows):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=["a", "b", "c"])
    # All quoted: pandas writes a lone carriage return without the quotes it needs.
    text = frame.to_csv(sep="\t", index=False, quoting=csv.QUOTE_ALL)
    assert read(text.encode())[1:] == rows
