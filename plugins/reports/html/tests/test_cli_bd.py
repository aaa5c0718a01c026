"""``lossylens bd`` on files as people have them."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("scipy")

from lossylens.cli import main

POINTS = """vlm,task,codec,bpp,score
qwen,pope,uncompressed,24,90
qwen,pope,jpeg,0.1,30
qwen,pope,jpeg,0.2,40
qwen,pope,jpeg,0.3,50
qwen,pope,jpeg,0.4,60
qwen,pope,elic,0.1,40
qwen,pope,elic,0.2,50
qwen,pope,elic,0.3,60
qwen,pope,elic,0.4,70
qwen,pope,tiny,0.1,40
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(POINTS)
    return path


def test_bd_metric_of_every_curve(file, capsys):
    assert main(["bd", "--csv", str(file), "--json"]) == 0
    rows = {row["codec"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["jpeg"]["bd_metric"] == pytest.approx(45 - 90)
    assert rows["elic"]["bd_metric"] == pytest.approx(55 - 90)
    assert rows["tiny"]["bd_metric"] == "1 point, 4 are needed"


def test_comparison_with_an_anchor(file, capsys):
    assert main(["bd", "--csv", str(file), "--anchor", "jpeg", "--json"]) == 0
    rows = {row["codec"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["elic"]["difference"] == pytest.approx(10)
    assert rows["elic"]["bd_quality"] == pytest.approx(10)
    assert rows["elic"]["bd_rate"] < 0
    assert "difference" not in rows["jpeg"]


def test_plain_points_need_the_uncompressed_score(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text("bpp,score\n0.1,30\n0.2,40\n0.3,50\n0.4,60\n")
    assert main(["bd", "--csv", str(path)]) == 0
    assert "no uncompressed score" in capsys.readouterr().out
    assert main(["bd", "--csv", str(path), "--uncompressed", "50"]) == 0
    assert "-5.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("rate,score\n1,2\n", [], "no column 'bpp'"),
        ("bpp,score\n0.1,x\n", [], "line 2, score: 'x' is no number"),
        ("bpp,score\n", [], "no rate-score points"),
        ("bpp,score\n0.1\n", [], "line 2, score: empty, where a number is needed"),
        (POINTS, ["--method", "cubic"], "use pchip or akima"),
        (POINTS, ["--anchor", "bpg"], "no such codec"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, content, options, message):
    path = tmp_path / "points.csv"
    path.write_text(content)
    assert main(["bd", "--csv", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


TWO = "".join(f"jpeg,0.{i},{40 + i}\nwebp,0.{i},{50 + i}\n" for i in range(2, 9, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Codec,bpp,score\n" + TWO, "the heading 'Codec' is to be 'codec'"),
        ("method,bpp,score\n" + TWO, "not those of one curve, and the column 'method' is not used"),
        (
            "method,bpp,score\n" + "\n".join(sorted(TWO.split())),
            "not those of one curve, and the column 'method' is not used",
        ),
        (
            "method,bpp,score\njpeg,0.1,4\nuncompressed,24,9\n",
            "line 3: 'uncompressed' in the column 'method', which is not used",
        ),
        (
            "model,codec,bpp,score\n"
            + "".join(f"{m},jpeg,0.{i},4\n" for m in "ab" for i in range(1, 5)),
            "the rates of jpeg are not those of one curve, and the column 'model' is not used",
        ),
        (
            "codec,bpp,score\nuncompressed,24,90\njpeg,0.1,4\nuncompressed,24,80\n",
            "line 4: another uncompressed score was given before",
        ),
    ],
)
def test_several_curves_are_never_taken_for_one(tmp_path, capsys, content, message):
    path = tmp_path / "points.csv"
    path.write_text(content)
    assert main(["bd", "--csv", str(path), "--uncompressed", "60"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_unused_columns_of_one_curve_are_no_error(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text(
        "level,codec,bpp,score,note\nq4,jpeg,0.4,60,x\nq3,jpeg,0.3,50,\n"
        "q2,jpeg,0.2,40,x\nq1,jpeg,0.1,30,\n"
    )
    assert main(["bd", "--csv", str(path), "--uncompressed", "60"]) == 0
    assert not capsys.readouterr().err


def test_columns_that_may_tell_curves_apart_are_named(tmp_path, capsys):
    """Rates in disorder with labels of their own, or labels that come again: perhaps one curve."""
    path = tmp_path / "points.csv"
    path.write_text("name,bpp,score\na,0.1,1\nb,0.3,3\nc,0.2,2\nd,0.4,4\n")
    assert main(["bd", "--csv", str(path), "--uncompressed", "60"]) == 0
    assert "the column 'name' is not used" in capsys.readouterr().err
    path.write_text("name,bpp,score\na,0.1,1\nb,0.2,3\na,0.3,2\nb,0.4,4\n")
    assert main(["bd", "--csv", str(path), "--uncompressed", "60"]) == 0
    assert "the column 'name' is not used" in capsys.readouterr().err


def test_the_uncompressed_score_is_found_as_names_are(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text(POINTS.replace("uncompressed", "Uncompressed "))
    assert main(["bd", "--csv", str(path)]) == 0
    assert "no uncompressed score" not in capsys.readouterr().out
