"""The rules of the reference evaluator's files, and the errors about broken ones."""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lossylens.errors import DataError
from lossylens_toolkit.tsv_task import TsvTable
from lossylens_toolkit.tsv_task import index as index_module

HEADER = "index\timage\tquestion\n"


@pytest.fixture
def table(write):
    """Write rows of (index, image, question) under the usual header."""

    def table(*rows: tuple[object, str, str], **options) -> TsvTable:
        lines = ["\t".join(map(str, row)) + "\n" for row in rows]
        return TsvTable(write(HEADER + "".join(lines)), ("question",), **options)

    return table


def test_rows_have_their_cells_and_pictures(table, pictures):
    rows = list(table((7, pictures[0], "What?"), (9, pictures[1], "Where?")))
    assert [row.id for row in rows] == ["7", "9"]
    assert [row.text("question") for row in rows] == ["What?", "Where?"]
    assert [row.image().key for row in rows] == ["7", "9"]
    assert rows[1].image().read() == base64.b64decode(pictures[1])


def test_a_short_image_cell_names_the_row_that_holds_the_picture(table, pictures):
    rows = list(table((5, pictures[0], "a"), (6, "5", "b")))
    assert rows[1].image().key == "5"
    assert rows[1].image().read() == base64.b64decode(pictures[0])


def test_a_reference_may_point_forward(table, pictures):
    first = next(iter(table((1, "2", "a"), (2, pictures[0], "b"))))
    assert first.image().key == "2"
    assert first.image().read() == base64.b64decode(pictures[0])


def test_a_reference_may_point_far_forward(table, pictures, monkeypatch):
    monkeypatch.setattr(index_module, "_PORTION_ROWS", 2)
    rows = [(1, "9", "a"), *((i, pictures[0], "b") for i in range(2, 9)), (9, pictures[1], "c")]
    made = table(*rows)
    assert next(iter(made)).image().read() == base64.b64decode(pictures[1])
    assert len(made) == 9


def test_the_first_row_comes_before_the_file_is_read(table, pictures, monkeypatch):
    monkeypatch.setattr(index_module, "_PORTION_ROWS", 2)
    made = table(*((i, pictures[0], "a") for i in range(9)))
    next(iter(made))
    assert len(made.index) == 2


def test_two_iterations_do_not_disturb_each_other(table, pictures, monkeypatch):
    monkeypatch.setattr(index_module, "_PORTION_ROWS", 2)
    made = table(*((i, pictures[0], "a") for i in range(5)))
    pairs = [(a.id, b.id) for a, b in zip(made, made, strict=True)]
    assert pairs == [(str(i), str(i)) for i in range(5)]


def test_tiny_pictures_just_over_the_limit_are_pictures(table):
    picture = base64.b64encode(b"x" * 49).decode()
    assert len(picture) == 68
    row = next(iter(table((1, picture, "a"))))
    assert row.image().read() == b"x" * 49


def test_rows_without_an_image_are_dropped_before_anything_else(table, pictures):
    made = table((1, "", "a"), (1, "nan", "b"), ("", "NA", "c"), (2, pictures[0], "d"))
    assert [row.id for row in made] == ["2"]
    assert made.index.dropped == 3
    assert next(iter(made)).place().number == 4


def test_words_for_missing_values_are_missing(table, pictures):
    rows = list(table((1, pictures[0], "None"), (2, pictures[0], " NA"), (3, pictures[0], '"NA"')))
    assert [row.get("question") for row in rows] == [None, " NA", None]
    with pytest.raises(DataError, match=r"row 1 \(index 1\), column 'question': empty"):
        rows[0].text("question")


def test_whole_numbers_as_indices_are_compared_as_numbers(table, pictures):
    made = table(("007", pictures[0], "a"), (" 8", pictures[0], "b"), ("x1", pictures[0], "c"))
    assert [row.id for row in made] == ["7", "8", "x1"]
    assert "7" in made
    assert "9" not in made


def test_readers_of_pictures_can_be_pickled(table, pictures):
    read = next(iter(table((1, pictures[0], "a")))).image().read
    assert pickle.loads(pickle.dumps(read))() == base64.b64decode(pictures[0])


def test_a_picture_in_a_quoted_cell_is_read(write, pictures):
    path = write(f'index\timage\tq\n1\t"{pictures[0]}"\t"a\nb ""c"""\n2\t"1"\tx\n')
    rows = list(TsvTable(path, ("q",)))
    assert rows[0].text("q") == 'a\nb "c"'
    assert rows[0].image().read() == rows[1].image().read() == base64.b64decode(pictures[0])


def test_a_cell_that_lists_one_picture_is_read(write, pictures):
    path = write(f"index\timage\n1\t\"['{pictures[0]}']\"\n")
    assert next(iter(TsvTable(path))).image().read() == base64.b64decode(pictures[0])


def test_a_cell_that_lists_several_pictures_is_refused(write, pictures):
    path = write(f"index\timage\n1\t['{pictures[0]}', '{pictures[1]}']\n")
    with pytest.raises(DataError, match=r"row 1 \(index 1\), column 'image': 2 images"):
        next(iter(TsvTable(path))).image().read()


@pytest.mark.parametrize(
    "cell",
    [
        "['{0}', '{1}']",
        "['{0}','{1}',]",
        "[{0}, {1}]",
        "\"['{0}', '{1}']\"",
        '"[""{0}"",\n""{1}""\n]"',
    ],
)
def test_a_list_of_pictures_is_read_one_by_one(write, pictures, cell):
    made = TsvTable(write(f"index\timage\n1\t{cell.format(*pictures)}\n2\t1\n3\t{pictures[0]}\n"))
    rows = list(made)
    read = [[image.read() for image in row.images()] for row in rows]
    first, second = map(base64.b64decode, pictures[:2])
    assert read == [[first, second], [first, second], [first]]
    assert [image.key for image in rows[1].images()] == ["1_0", "1_1"]
    assert [image.key for image in rows[2].images()] == ["3"]
    assert pickle.loads(pickle.dumps(rows[0].images()[1].read))() == second


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("['{0}', '', '{0}']", "image 2: an empty image"),
        ("['{0}', 'a.', '{0}']", "image 2: not an image in base64"),
    ],
)
def test_a_broken_member_of_a_list_fails_alone(write, pictures, cell, message):
    images = next(iter(TsvTable(write(f"index\timage\n1\t{cell.format(pictures[0])}\n")))).images()
    assert images[0].read() == images[2].read() == base64.b64decode(pictures[0])
    with pytest.raises(DataError, match=rf"row 1 \(index 1\), column 'image': {message}"):
        images[1].read()


def test_a_list_of_nothing_is_an_image_that_cannot_be_read(write):
    [image] = next(iter(TsvTable(write(f"index\timage\n1\t[{70 * ' '}]\n")))).images()
    with pytest.raises(DataError, match=r"row 1 \(index 1\), column 'image': an empty image"):
        image.read()


def test_a_list_of_paths_names_several_files(write, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    rows = list(TsvTable(write("index\timage_path\n1\t['a.png', 'b.png', 'a.png']\n2\tb.png\n")))
    assert [image.key for image in rows[0].images()] == ["a.png", "b.png", "a.png"]
    assert [image.read() for image in rows[0].images()] == [b"a.png", b"b.png", b"a.png"]
    assert [image.key for image in rows[1].images()] == ["b.png"]
    with pytest.raises(DataError, match="column 'image_path': 3 images; one per question"):
        rows[0].image()


@pytest.mark.parametrize("folder", ["", "images/DATA"])
def test_a_file_without_images_names_them_by_path(write, tmp_path, folder):
    (tmp_path / folder / "sub").mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "sub" / "1.jpg").write_bytes(b"jpeg")
    made = TsvTable(
        write("index\timage_path\n1\tsub/1.jpg\n2\tsub/1.jpg\n3\tno.jpg\n"), folder="DATA"
    )
    rows = list(made)
    assert rows[0].image().read() == b"jpeg"
    assert rows[0].image().key == rows[1].image().key
    with pytest.raises(DataError, match=r"row 3 .*column 'image_path': no such image file"):
        rows[2].image().read()


@pytest.mark.parametrize("path", ["../secret", "a/../../b", "a\0b"])
def test_a_path_out_of_the_folder_is_refused(write, path):
    made = TsvTable(write(f"index\timage_path\n1\t{path}\n"))
    with pytest.raises(DataError, match="not the path of an image"):
        next(iter(made)).image()


def test_image_wins_over_image_path(write, pictures):
    made = TsvTable(write(f"index\timage\timage_path\n1\t{pictures[0]}\tx.jpg\n"), ("image_path",))
    row = next(iter(made))
    assert row.image().read() == base64.b64decode(pictures[0])
    assert row.text("image_path") == "x.jpg"


# Errors.


def test_a_missing_column_is_named_with_the_nearest(write):
    path = write("index\timage\tQuestions\n")
    with pytest.raises(
        DataError, match=r"no column 'question'.*Did you mean 'Questions'.*Found: index"
    ):
        TsvTable(path, ("question",), kind="POPE")


def test_a_file_of_another_data_set_is_recognised_by_its_columns(write):
    path = write("index\timage\tquestion\tA\tB\tl2-category\n")
    with pytest.raises(DataError, match="This looks like a file of MMBench"):
        TsvTable(path, ("question", "answer"), kind="POPE")


@pytest.mark.parametrize(
    ("category", "name"), [("random,popular", "POPE"), ("query", "GQA"), ("OCR", "MME")]
)
def test_a_file_of_another_data_set_is_recognised_by_its_first_row(write, category, name):
    columns = "index\timage\tquestion\tanswer\tcategory\timage_path\n"
    path = write(f"{columns}0\tx\tWhat?\tYes\t{category}\tx\n")
    with pytest.raises(DataError, match=f"no column 'A'.*This looks like a file of {name}"):
        TsvTable(path, ("A", "category"), kind="SEEDBench")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
        (b"PK\x03\x04", "zip or xlsx"),
        ("index\timage\n".encode("utf-16"), "UTF-16"),
        (b"index\timage\tcaf\xe9\n", "header is not UTF-8"),
        (b"index\timage\tindex\n", "2 columns are called 'index'"),
        (b"index,image\n1,2\n", "no column 'index', 'image'"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(write, content, message):
    with pytest.raises(DataError, match=message):
        TsvTable(write(content), (), kind="POPE")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        TsvTable(tmp_path / "none.tsv")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        TsvTable(tmp_path)


def test_a_file_without_rows_is_an_error(table):
    with pytest.raises(DataError, match="no rows"):
        list(table())
    with pytest.raises(DataError, match="no rows, or none with an image"):
        list(table((1, "", "a")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1\tPIC\ta\n1\tPIC\tb\n", r"row 2, column 'index': the index '1' is also that of row 1"),
        ("1\tPIC\ta\n01\tPIC\tb\n", r"the index '1' is also that of row 1"),
        ("\tPIC\ta\n", r"row 1, column 'index': the row has no index"),
        ("1\tPIC\n", r"row 1: 2 cells where the header has 3"),
        ("1\tPIC\ta\tb\n", r"row 1: 4 cells where the header has 3"),
        ("1\t9\ta\n", r"row 1 \(index 1\), column 'image': neither .* nor .* with one: '9'"),
        ("1\t1\ta\n", r"column 'image': refers to row '1', which is a reference itself"),
        ("1\t2\ta\n2\t3\tb\n3\tPIC\tc\n", r"refers to row '2', which is a reference itself"),
        ("1\t2\ta\n2\t\tb\n", r"row 1 .* nor the index of a row with one: '2'"),
        (f"1\t{'Is there a cat? ' * 9}\ta\n", r"row 1, column 'image': neither an image"),
        ('1\tPIC\t"a\n2\tPIC\tb\n', r"quote opened at byte \d+ is not closed"),
    ],
)
def test_a_malformed_row_is_an_error_that_names_it(write, pictures, rows, message):
    path = write(HEADER + rows.replace("PIC", pictures[0]))
    table = TsvTable(path, ("question",))
    with pytest.raises(DataError, match=message) as caught:
        _ = [row.image() for row in table]
    assert str(path) in str(caught.value)


def test_a_malformed_row_is_the_same_error_each_time(table, pictures):
    made = table((1, pictures[0], "a"), (2, "Is there a cat? " * 9, "b"), (3, pictures[0], "c"))
    for _ in range(2):
        with pytest.raises(DataError, match="row 2, column 'image'"):
            list(made)
    assert next(iter(made)).image().read() == base64.b64decode(pictures[0])


def test_text_that_is_not_utf8_is_an_error_that_names_the_row(write, pictures):
    path = write(f"{HEADER}1\t{pictures[0]}\tok\n2\t{pictures[0]}\tcaf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="row 2: not UTF-8 text"):
        list(TsvTable(path, ("question",)))


@pytest.mark.parametrize("picture", ["A" * 99, "A" * 80 + "*" * 20, "A" * 101 + "==="])
def test_bad_base64_is_an_error_that_names_the_cell(table, picture):
    row = next(iter(table((3, picture, "a"))))
    with pytest.raises(
        DataError, match=r"row 1 \(index 3\), column 'image': not an image in base64"
    ):
        row.image().read()


_PIECES = [b"\t", b"\n", b"\r", b'"', b"1", b"2", b"nan", b"A" * 66, b"\xff", b"\0", b"[", b"]"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.sampled_from([*_PIECES, b"1\t2\ta\n", b"2\t" + b"A" * 68 + b"\tb\n"])))
def test_any_file_gives_rows_or_a_data_error(write, rows):
    path = write(HEADER.encode() + b"".join(rows))
    try:
        for row in TsvTable(path, ("question",)):
            row.get("question")
            assert isinstance(row.image().read(), bytes)
    except DataError:
        return


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary())
def test_any_bytes_give_rows_or_a_data_error(write, content):
    try:
        list(TsvTable(write(content)))
    except DataError:
        return


def test_rows_equal_those_that_pandas_reads(write, pictures):
    pandas = pytest.importorskip("pandas")
    texts = ["plain", 'a "quoted" word', "tab\there", "two\nlines", "None", "", " NA", "é", "'"]
    frame = pandas.DataFrame(
        {
            "index": range(len(texts)),
            "question": texts,
            "image": [pictures[0], *["0"] * (len(texts) - 1)],
            "ignored": "x",
        }
    )
    path = write(frame.to_csv(sep="\t", index=False))
    read = pandas.read_csv(path, sep="\t")
    expected = [None if cell != cell else cell for cell in read["question"]]
    assert [row.get("question") for row in TsvTable(path, ("question",))] == expected


_MEASURE = """
import resource, sys
from pathlib import Path
from lossylens_toolkit.tsv_task import TsvTable

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
table = TsvTable(Path(sys.argv[1]), ("question",))
count = sum(len(row.image().key) > 0 for row in table)
row = next(iter(table))
assert len(row.image().read()) == 150_000
print(count, peak() - before)
"""


def test_a_file_of_300_megabytes_takes_little_memory(tmp_path: Path):
    picture = base64.b64encode(b"p" * 150_000).decode()
    path = tmp_path / "big.tsv"
    with path.open("w") as stream:
        stream.write(HEADER)
        for i in range(1500):
            stream.write(f"{i}\t{picture}\tIs it so?\n{i + 10_000}\t{i}\tOr so?\n")
    assert path.stat().st_size > 300_000_000
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    count, megabytes = run.stdout.split()
    assert count == "3000"
    assert float(megabytes) < 60


_MEASURE_LISTS = """
import resource, sys
from pathlib import Path
from lossylens_toolkit.tsv_task import TsvTable

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
images = [image for row in TsvTable(Path(sys.argv[1]), ("question",)) for image in row.images()]
assert {len(image.read()) for image in images} == {2_000_000}
print(len(images), peak() - before)
"""


def test_lists_of_pictures_take_the_memory_of_one_row(tmp_path: Path):
    """The largest row has 11 MB, the file 85."""
    picture = base64.b64encode(b"p" * 2_000_000).decode()
    path = tmp_path / "lists.tsv"
    with path.open("w") as stream:
        stream.write(HEADER)
        for i in range(8):
            cell = f"[{', '.join([repr(picture)] * 4)}]"
            cell = f'"{cell}"' if i % 2 else cell
            stream.write(f"{i}\t{cell}\tIs it so?\n")
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE_LISTS, str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, megabytes = run.stdout.split()
    assert count == "32"
    assert float(megabytes) < 70


# Quotation marks that take rows in.

FIVE = "index\timage\tquestion\tanswer\tcategory\n"


def read_five(path):
    columns = ("question", "answer", "category")
    return [row.cells for row in TsvTable(path, columns)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("rows", "number", "column"),
    [
        (['0|PIC|"Hello, is it?|Yes|c', '1|PIC|"No, is it?|No|c'], 1, "question"),
        (['0|PIC|"a|Yes|c', "1|PIC|b|No|c", '2|PIC|"d|No|c'], 1, "question"),
        (['0|PIC|"a|Yes|c', "1|PIC|b|No|c", '2|PIC|it is 5"|No|c'], 1, "question"),
        (["0|PIC|a|Yes|c", '1|PIC|b|"No|c', '2|PIC|d|"Yes|c'], 2, "answer"),
        (["0|PIC|a|Yes|c", '1|0|b|Yes|"c', '2|0|d|No|"c'], 2, "category"),
        (['0|PIC|"a|Yes|c', '1|0|"b|No|c'], 1, "question"),
        (['0|9|"a|Yes|c', '1|9|"b|No|c', "9|PIC|d|No|c"], 1, "question"),
        (['0|PIC|"a|Yes|c', '1||"b|No|c'], 1, "question"),
        (['0|"PIC|a|Yes|c', '1|"PIC|b|No|c'], 1, "image"),
        (['"0|PIC|a|Yes|c', '"1|PIC|b|No|c'], 1, "index"),
        (['0|PIC|"a|Yes|c', '1|PIC|"b ""quoted""|No|c'], 1, "question"),
        (["0|PIC|\"a|['Yes', 'y']|c", "1|PIC|\"b|['No']|c"], 1, "question"),
        (["0|PIC|a|\"['Yes', 'y']|c", "1|PIC|b|\"['No']|c"], 1, "answer"),
        # The quote is closed in another column, and what that takes away a second one gives.
        (['0|PIC|"a|Yes|c', '1|PIC|b|"N\to"|c'], 1, "question"),
        (['0|PIC|"two LINES"|"Yes|c', '1|PIC|b|"No|c'], 1, "answer"),
        (['0|PIC|"a|Yes|c', '1|PIC|b|"No|"c', '2|PIC|d|"x|c'], 1, "question"),
        (['0|PIC|"a|Yes|c', "", '1|PIC|"b|No|c'], 1, "question"),
    ],
)
def test_a_quote_that_takes_rows_in_is_an_error_that_names_it(
    write, pictures, rows, number, column, end
):
    text = FIVE.strip() + end + "".join(row.replace("|", "\t") + end for row in rows)
    path = write(text.replace("PIC", pictures[0]).replace("LINES", f"{end}lines"))
    with pytest.raises(
        DataError, match=rf"row {number} \(index .*\), column '{column}': begins with a quotation"
    ) as caught:
        read_five(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "cell",
    [
        '"two\nlines"',
        '"a\ttab"',
        '"a\ttab\nand\nlines"',
        '"a\tb\nc\td\ne\tf\ng\th\n"',
        '"\n\t\t\t\t\n"',
        '"a table\nh1\th2\th3\th4\th5\n1\t2\t3\t4\t5\n"',
        '"a\tb\tc\nd\te\tf"',  # each line has the tabs of a row, but no picture
        '"say ""hi""\n\tand ""bye"""',
        "\"['a\n', 'b\tc']\"",
    ],
)
def test_quoted_cells_may_have_lines_and_tabs(write, pictures, cell):
    pandas = pytest.importorskip("pandas")
    rows = f"0\t{pictures[0]}\t{cell}\tYes\tc\n1\t{pictures[1]}\tplain\tNo\tc\n"
    path = write(FIVE + rows)
    expected = pandas.read_csv(path, sep="\t")["question"].tolist()
    assert [cells["question"] for cells in read_five(path)] == expected


def test_a_picture_in_lines_of_base64_is_read(write):
    data = bytes(range(256)) * 3000
    path = write(f'{FIVE}0\t"{base64.encodebytes(data).decode()}"\ta\tYes\tc\n')
    row = next(iter(TsvTable(path, ("question",))))
    assert row.image().read() == data


def test_a_quote_that_takes_rows_with_paths_in_is_an_error(write):
    path = write('index\timage_path\tquestion\n0\ta.jpg\t"x\n1\tb.jpg\t"y\n')
    with pytest.raises(DataError, match=r"row 1 \(index 0\), column 'question': begins with"):
        list(TsvTable(path, ("question",)))


def test_a_quote_in_the_header_that_takes_rows_in_is_an_error(write, pictures):
    path = write(f'index\timage\tquestion\t"hint\n0\t{pictures[0]}\ta\t"b\n')
    with pytest.raises(DataError, match="the header: the quotation mark before 'hint"):
        TsvTable(path, ("question",))


def test_a_quote_that_is_never_closed_names_the_row(write, pictures):
    rows = f'0\t{pictures[0]}\ta\tYes\tc\n1\t{pictures[0]}\t"b\tNo\tc\n'
    with pytest.raises(DataError, match=r"data.tsv: row 2: the quote opened at byte \d+"):
        read_five(write(FIVE + rows))


def test_headings_that_differ_at_a_glance_are_refused(write):
    path = write("index\timage\tquestion\t Hint\n")
    with pytest.raises(DataError, match="heading ' Hint' is to be 'hint'"):
        TsvTable(path, ("question",), ("hint",))
    path = write("index\timage\tquestion\thint\tHint\n")
    assert "hint" in TsvTable(path, ("question",), ("hint",)).header.kept
