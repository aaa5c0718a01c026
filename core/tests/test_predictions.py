from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lossylens.errors import DataError
from lossylens.files.predictions import named, read_predictions


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "data.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        '{"index": 1, "prediction": "yes"}\n{"index": "x", "prediction": null}\n',
        '{"index": "01", "prediction": "yes", "group": 3}\r\n\r\n{"index":"x","prediction":null}',
        '[{"index": 1, "prediction": "yes"},\n {"index": "x", "prediction": null}]',
        '\ufeff\n {"index": 1, "prediction": "yes"}\n{"index": "x", "prediction": null}',
    ],
)
def test_json_lines_and_a_json_list_are_read(write, content):
    assert read_predictions(write(content)) == {"1": "yes", "x": None}


@pytest.mark.parametrize(
    ("number", "text"),
    [("3", "3"), ("3.0", "3"), ("-0.5", "-0.5"), ("1e3", "1000"), ("9" * 400, "9" * 400)],
)
def test_a_number_is_the_text_of_its_cell_in_a_spreadsheet(write, number, text):
    assert read_predictions(write(f'{{"index": 1, "prediction": {number}}}')) == {"1": text}


def test_a_line_separator_inside_a_text_does_not_end_the_line(write):
    path = write('{"index": 1, "prediction": "a\u2028b\x85c"}')
    assert read_predictions(path) == {"1": "a\u2028b\x85c"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"index": 1, "prediction": "a"}\n{"index": 2, "pred', r"data\.tsv:2: not JSON: "),
        ('[{"index": 1,\n "prediction": a}]', r"not JSON in line 2: "),
        ('{"index": 1}', r":1: expected {\"index\": ..., \"prediction\": ...}"),
        (
            '{"Index": 1, "prediction": "a"}',
            r":1: expected .* the heading 'Index' is to be 'index'",
        ),
        ("[3]", "entry 1: expected"),
        ('{"index": 1.5, "prediction": "a"}', '"index" is neither a whole number nor text'),
        ('{"index": true, "prediction": "a"}', '"index" is neither'),
        ('{"index": 1, "prediction": ["a"]}', '"prediction" is neither text nor null'),
        ('{"index": 1, "prediction": true}', '"prediction" is neither text nor null'),
        ('{"index": 1, "prediction": NaN}', '"prediction" is neither text nor null'),
        ('{"index": 1, "prediction": "a"}\n' * 2, "two predictions for index 1"),
        (b"\xff", "cannot be read"),
        ("[" * 100_000, "not JSON"),
        ('{"index": ' + "1" * 5000 + ', "prediction": "a"}', "not JSON that can be read"),
    ],
)
def test_a_malformed_file_is_an_error_that_says_where(write, content, message):
    with pytest.raises(DataError, match=message):
        read_predictions(write(content))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_predictions(tmp_path / "none.jsonl")


def test_long_lists_of_indices_are_cut():
    assert named(["1", "2", "1"]) == "1, 2"
    assert named(list("abcdefgh")) == "a, b, c, d, e and 3 more"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.text(alphabet='[]{}",:01aindexprediction\n').map(str.encode))
def test_any_file_gives_predictions_or_a_data_error(write, content):
    try:
        read_predictions(write(content))
    except DataError:
        return
