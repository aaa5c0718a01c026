"""Tables whose columns are found by name, and the commands that read them."""

from __future__ import annotations

import pytest
from lossylens.cli import main
from lossylens.errors import DataError
from lossylens.files.columns import check_headings, read_csv


@pytest.mark.parametrize(
    "given",
    ["Codec", "CODEC", " codec", "codec ", "co dec", "codec\u200b", "\u00a0codec"],
)
def test_a_heading_that_looks_like_a_column_is_refused(given):
    for required, optional in ((["codec"], []), ([], ["codec"])):
        with pytest.raises(DataError, match=r"the heading .* is to be 'codec'"):
            check_headings(["bpp", given], ["bpp", *required], optional)


def test_a_heading_beside_the_column_itself_is_another_column():
    check_headings(["codec", "Codec", "video codec"], ["codec"])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (["bpp", "scores"], "no column 'score'. Did you mean 'scores' for 'score'"),
        (["bpp"], "no column 'score'. Found: bpp"),
        (["bpp", "score", "bpp"], "2 columns are called 'bpp'"),
        (["bpp", "score", "task", "task"], "2 columns are called 'task'"),
    ],
)
def test_what_is_wrong_with_headings_is_said(found, message):
    with pytest.raises(DataError, match=message):
        check_headings(found, ["bpp", "score"], ["task"])


@pytest.fixture
def write(tmp_path):
    def write(content: str):
        path = tmp_path / "table.csv"
        path.write_bytes(content.encode())
        return path

    return write


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('codec,bpp,note|"jpeg,1,a|"webp,2,b|', "line 2"),
        ('codec,bpp,note|jpeg,1,"a|webp,2,"b|', "line 2"),
        ('codec,bpp,note|jpeg,1,a|webp,2,"b|jpeg,3,"|', "line 3, note: a quotation mark takes"),
        ('note,codec,bpp|"a,jpeg,1|",jpeg,2|', "line 2, note: a quotation mark takes"),
        ('note,codec,bpp|"a,jpeg,1|b,jpeg,2|",jpeg,2|', "line 2, note: a quotation mark takes"),
        ('codec,bpp,note|"jp|eg",1,a|', "line 2, codec: a quotation mark takes"),
        ('codec,bpp,note|jpeg,"1|",a|', "line 2, bpp: a quotation mark takes"),
        ('codec,bpp,"note|jpeg,1,"|', "header has a quotation mark"),
        ('codec,bpp,note|jpeg,1,a|webp,2,"b|', "line 3: cannot be read .* unexpected end"),
        ("codec,bpp,note|jpeg,1,a,b|", "line 2: 4 cells where the header has 3"),
    ],
)
def test_a_quote_that_takes_rows_in_is_refused(write, content, message, end):
    path = write(content.replace("|", end))
    with pytest.raises(DataError, match=message) as caught:
        read_csv(path, names=["codec"], numbers=["bpp"])
    assert str(path) in str(caught.value)


def test_text_in_other_columns_may_have_lines(write):
    path = write('codec,bpp,note\njpeg,1,"a, b\nc, d\n,,\n"\n\nwebp,2\n')
    rows = read_csv(path, names=["codec"], numbers=["bpp"]).rows
    assert [row.cells["note"] for row in rows] == ["a, b\nc, d\n,,\n", ""]
    assert rows[1].place == f"{path}, line 7"
    assert rows[1].number("bpp") == 2


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\x00b"])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_csv(path, names=["codec"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read as a CSV table: No such file"):
        read_csv(tmp_path / "none.csv")


@pytest.mark.parametrize("heading", ["Codec", "codec ", "VLM", "Task"])
def test_commands_refuse_the_same_headings(write, tmp_path, capsys, heading):
    pytest.importorskip("scipy")
    path = write(f"{heading},level,bpp,score\n" + "".join(f"a,q{i},0.{i},5\n" for i in range(1, 9)))
    assert main(["bd", "--csv", str(path)]) == 2
    assert f"the heading {heading!r} is to be" in capsys.readouterr().err
    if heading != "VLM":
        path = write(f"{heading},level,psnr\na,q1,30\n")
        from lossylens_report.metrics.correlation import read_fidelity

        with pytest.raises(DataError, match=f"the heading {heading!r} is to be"):
            read_fidelity(path)
