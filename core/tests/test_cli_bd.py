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
        ("bpp,score\n0.1\n", [], "None is no number"),
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
