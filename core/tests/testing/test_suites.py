"""The suites for VLMs, tasks and adaptors notice what they are there for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

#: By kind and name, the test that fails for it, and what it says.
NOTICED = {
    "vlm": {
        "forgetting": ("provenance", "provenance changes once it has answered"),
        "counting": ("answers_are_deterministic", "asked twice: "),
        "sorting": ("answers_come_in_order", "questions in reverse order: "),
        "leaning": ("answers_do_not_depend_on_the_batch", "picture 0 in a batch of pictures"),
        "lacking": ("every_kind_of_question", "[4] answers to [5] questions"),
        "texting": ("every_kind_of_question", "'yes' instead of an Answer"),
        "silent": ("every_kind_of_question", "must say in `failure` why"),
        "raising": ("what_cannot_be_answered", "raised ValueError: too long"),
        "alone": ("several_images", "questions about two images: answering raised ValueError"),
        "painting": ("the_pictures_are_left_as_they_are", "has changed the picture"),
        "announced": ("expecting_changes_nothing", "announced: ['2'"),
        "crossing": ("conditions_reach_the_encoder", "came with the condition of another"),
    },
    "task": {
        "shuffling": ("samples_are_always_the_same", "a second time: sample ["),
        "twin": ("samples", "two samples have the id '0'"),
        "fresh": ("samples_are_always_the_same", "the fingerprint of another instance"),
        "mixed": ("pictures", "the key 'one' means two pictures"),
        "broken": ("pictures", "picture '0': "),
        "lenient": ("unknown_samples", "was scored instead of refused with a DataError"),
        "generous": ("failed_samples", "failed samples count as right"),
        "blind": ("right_answers", "right answers count as wrong"),
        "miscounting": ("failed_samples", "samples, missing and failed are (4, 0, 0)"),
        "beyond": ("empty_answers", "its score of 50 is outside the range"),
        "speechless": ("empty_answers", "empty answers: scoring raised IndexError"),
    },
    "adaptor": {
        "grey": ("pictures", "plain: <PIL.Image.Image image mode=L"),
        "moody": ("pictures", "plain: shown twice, two pictures"),
        "scratching": ("pictures", "plain: the decoded image was changed"),
        "smearing": ("what_it_does_not_serve_is_left_alone", "has become another"),
        "useless": ("it_says_what_it_serves", "it serves none of plain q1: never"),
        "wordy": ("it_says_what_it_serves", "without a full stop"),
        "anybodys": ("checkpoints_of_another_vlm", "fits accepts a checkpoint"),
        "nameless": ("provenance", "provenance of another checkpoint is the same"),
        "restless": ("training_goes_on_where_it_was_left", "has written another checkpoint"),
        "careless": ("a_folder_holds_one_training", "was accepted in a folder that holds one"),
    },
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed distribution of ``errant.py``."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "lossylens_errant.py").write_text(Path(__file__).with_name("errant.py").read_text())
    info = folder / "lossylens_errant-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lossylens-errant\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lossylens]\nerrant = lossylens_errant\n")
    return folder


def check(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--tb=short"]
    adapted = ("--adaptor-vlm", "right", "--adaptor-point", "plain/q1")
    return subprocess.run(
        [*command, "-W", "error", "--pyargs", *arguments, *adapted],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site), "LOSSYLENS_PLUGINS": "errant"},
        capture_output=True,
        text=True,
    )


def test_sound_ones_pass(site: Path) -> None:
    """Of several kinds at once; the suites of other kinds are not collected."""
    named = ["--vlm=right", "--task=proper", "--adaptor=darker", "--adaptor=loyal"]
    done = check(site, "lossylens.testing", *named)
    assert done.returncode == 0, done.stdout
    assert "test_codec" not in done.stdout
    assert "failed" not in done.stdout


def test_codecs_are_given_what_an_adaptor_needs(site: Path) -> None:
    bare = check(site, "lossylens.testing", "--adaptor=cornered")
    assert "it serves none of plain q1: pictures are coded as they are" in bare.stdout
    done = check(
        site, "lossylens.testing", "--adaptor=cornered", "--adaptor-codec-option=square.side=32"
    )
    assert done.returncode == 0, done.stdout
    wrong = check(
        site, "lossylens.testing", "--adaptor=cornered", "--adaptor-codec-option=square.size=32"
    )
    assert "plain.square: expected {side: 384, fit: pad}" in wrong.stdout


def test_each_broken_rule_is_noticed(site: Path) -> None:
    ids, named = [], []
    for kind, cases in NOTICED.items():
        place = f"lossylens.testing.test_{kind}::Test{kind.capitalize()}"
        ids += [f"{place}::test_{test}[{name}]" for name, (test, _) in cases.items()]
        named += [f"--{kind}={name}" for name in cases]
    done = check(site, *ids, *named)
    assert f"{len(ids)} failed" in done.stdout, done.stdout
    title = r"_ Test\w+\.(\S+) _+\n"
    sections = dict(re.findall(title + r"(.*?)(?=\n_|\n=)", done.stdout, re.DOTALL))
    for cases in NOTICED.values():
        for name, (test, message) in cases.items():
            said = sections[f"test_{test}[{name}]"]
            assert message in said, said


@pytest.mark.parametrize("kind", NOTICED)
def test_what_is_not_there_is_one_error(site: Path, kind: str) -> None:
    done = check(site, "lossylens.testing", f"--{kind}=nobody")
    assert re.search(r"= \d+ skipped, 1 error in", done.stdout), done.stdout
    assert f"unknown {kind} 'nobody'" in done.stdout
