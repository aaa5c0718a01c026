"""The judge against a real server process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lossylens.errors import ConfigError, PluginError, RequirementError, TransientError
from lossylens.task import Primary, TaskSpec
from lossylens_toolkit.cache_folder import cache_folder
from lossylens_toolkit.tsv_task import (
    Dataset,
    Judged,
    JudgedOptions,
    MultipleChoiceTask,
    Summary,
    TsvTask,
    YesNoTask,
)
from lossylens_toolkit.tsv_task.judge import Judge
from lossylens_toolkit.tsv_task.tsv_options import JudgeOptions, TsvOptions

PRIMARY = Primary(name="accuracy", low=0, high=1)


class _Accuracy(TsvTask):
    def summary(self, judged: Sequence[Judged]) -> Summary:
        return Summary({"accuracy": sum(each.verdict.credit for each in judged) / len(judged)})


class YesNo(_Accuracy, YesNoTask):
    spec = TaskSpec(name="yn", summary="", factory="a:b", options=JudgedOptions, primary=PRIMARY)
    dataset = Dataset(name="YesNo", columns=("question", "answer"))


class Choice(_Accuracy, MultipleChoiceTask):
    spec = TaskSpec(name="mc", summary="", factory="a:b", options=JudgedOptions, primary=PRIMARY)
    dataset = Dataset(name="Choice", columns=("question", "A", "B", "answer"))


class Server:
    def __init__(self, log: Path) -> None:
        script = Path(__file__).parent / "judge_server.py"
        self.log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen([sys.executable, script], stdout=stream)
        while not (lines := log.read_text().splitlines()):
            assert self.process.poll() is None
        self.url = f"http://127.0.0.1:{lines[0]}/v1"

    @property
    def asked(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()[1:]]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("judge") / "log")
    yield server
    server.stop()


@pytest.fixture
def server(running):
    """The server, whose ``asked`` is what was asked since now."""
    before = len(running.asked)

    class Since:
        url = running.url

        @property
        def asked(self):
            return running.asked[before:]

    return Since()


@pytest.fixture
def options(server):
    return JudgeOptions(url=server.url, model="wise", pause=0.01)


@pytest.fixture
def yes_no(write, pictures, options):
    lines = "".join(f"{i}\t{pictures[0]}\tIs it?\tYes\n" for i in range(4))
    path = write("index\timage\tquestion\tanswer\n" + lines)
    return YesNo(JudgedOptions(data=str(path), judge=options))


def test_only_unread_answers_are_judged_and_replies_read_by_the_same_rules(yes_no, server):
    score = yes_no.score(
        {"0": "yes", "1": "no", "2": "Indeed. <reply: ~Yes~.>", "3": "<reply: ~NO~, never>"}
    )
    assert score.verdicts == {"0": 1, "1": 0, "2": 1, "3": 0}
    assert score.extracted == {"0": "Yes", "1": "No", "2": "Yes", "3": "No"}
    assert (score.value, score.unextracted) == (0.5, 0)
    assert len(server.asked) == 2


def test_the_judge_sees_question_and_effective_answer(yes_no, server):
    yes_no.score({"0": "Indeed. <reply: ~Yes~>"})
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert asked["model"] == "wise"
    assert asked["temperature"] == 0
    assert "Question: Is it?\nAnswer: Indeed. <reply: ~Yes~>\n" in asked["prompt"]


def test_scoring_again_asks_nothing_again(yes_no, server):
    for _ in range(2):
        yes_no.score({"0": "Indeed. <reply: ~Yes~>", "1": "Hm. <reply: dunno>"})
    assert len(server.asked) == 1 + YesNo.judge_tries


def test_an_answer_that_the_judge_does_not_clear_up_is_wrong_and_counted(yes_no, server, caplog):
    score = yes_no.score({"0": "yes", "1": "<reply: perhaps>"})
    assert (score.value, score.unextracted) == (0.5, 1)
    assert len(server.asked) == 5
    assert "made nothing of 1 of 1 answers" in caplog.text


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ("status: 500", TransientError),
        ("status: 429", RequirementError),
        ("hang up", TransientError),
        ("headers", TransientError),
    ],
)
def test_without_a_judge_that_works_nothing_is_scored(yes_no, server, order, error):
    yes_no.judge = Judge(replace(yes_no.judge.options, workers=1, timeout=0.3))
    answers = {"0": "<reply: ~Yes~>", "1": f"<{order}>", "2": "<reply: ~yes~>"}
    with pytest.raises(error, match="nothing is scored without the judge") as caught:
        yes_no.score(answers)
    assert "(5 attempts)" in str(caught.value)
    before = len(server.asked)
    answers["1"] = "yes"
    assert yes_no.score(answers).value == 1
    # What it had replied is remembered.
    assert len(server.asked) <= before + 1
    assert sum("<reply: ~Yes~>" in each["prompt"] for each in server.asked) == 1


def test_a_reply_in_parts_is_read(yes_no):
    parts = [{"type": "text", "text": "Y"}, {"type": "text", "text": "es"}]
    assert yes_no.score({"0": f"<content: {json.dumps(parts)}>"}).verdicts == {"0": 1}


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("content: null", "the model wrote nothing (it ended with length)"),
        ('content: ""', "the model wrote nothing (it ended with length)"),
        ('content: {"a": 1}', 'the content of the reply is no text: {"a": 1}'),
        ("status: 403", "403 Forbidden"),
        ("status: 413", "413 "),
    ],
)
def test_one_answer_that_the_judge_does_not_take_is_wrong_with_its_reason(
    yes_no, server, caplog, order, reason
):
    answers = {"0": f"<{order}>", "1": "<reply: ~Yes~>", "2": "<reply: dunno>"}
    score = yes_no.score(answers)
    assert (score.verdicts, score.unextracted) == ({"0": 0, "1": 1, "2": 0}, 2)
    assert "the judge made nothing of 1 of 3 answers" in caplog.text
    assert "there is no reply of the judge to 1 of 3 answers" in caplog.text
    assert f"The first reason: judge at {server.url}: {reason}" in caplog.text
    assert sum(f"<{order}>" in each["prompt"] for each in server.asked) == 1


def test_a_judge_that_lets_nobody_in_ends_scoring(yes_no, options):
    yes_no.judge = Judge(replace(options, model="status: 403"))
    with pytest.raises(ConfigError, match="403 Forbidden; it refuses a control question, too"):
        yes_no.score({"0": "Indeed."})


@pytest.mark.parametrize(("order", "message"), [("status: 401", "401"), ("odd", "not a reply")])
def test_a_server_that_refuses_is_an_error(yes_no, order, message):
    with pytest.raises(ConfigError, match=f"judge at http.*{message}"):
        yes_no.score({"0": f"<{order}>"})


def test_failed_samples_are_not_judged(yes_no, server):
    assert yes_no.score({"0": None}).value == 0
    assert server.asked == []


def test_a_server_that_is_not_there_ends_scoring(yes_no):
    absent = JudgeOptions(url="http://127.0.0.1:9/v1", model="wise", pause=0.01)
    yes_no.judge = Judge(absent)
    with pytest.raises(RequirementError, match="cannot be reached"):
        yes_no.score({"0": "perhaps"})


def test_the_judge_is_recorded(yes_no, server):
    provenance = yes_no.provenance()
    assert provenance["judge"] == "wise"
    assert provenance["judge_url"] == server.url


def test_the_key_comes_from_the_environment(yes_no, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    yes_no.score({"0": "<reply: ~yes~>"})
    assert [asked["key"] for asked in server.asked] == ["Bearer secret"]


def test_a_choice_is_judged_three_times_with_its_options(write, pictures, options, server):
    path = write(f"index\timage\tquestion\tA\tB\tanswer\n0\t{pictures[0]}\tWhat?\tcat\tdog\tB\n")
    task = Choice(JudgedOptions(data=str(path), judge=options))
    assert task.score({"0": "It barks. <reply: ~B~>"}).value == 1
    assert "Options:\nA. cat\nB. dog\nAnswer: It barks." in server.asked[0]["prompt"]
    assert task.score({"0": "<reply: no idea>"}).unextracted == 1
    assert len(server.asked) == 1 + 3
    assert task.score({"0": "<reply: ~Z~>"}).extracted == {"0": "Z"}


def test_no_judge_is_asked_by_default(write, pictures):
    path = write(f"index\timage\tquestion\tanswer\n0\t{pictures[0]}\tIs it?\tYes\n")
    task = YesNo(JudgedOptions(data=str(path)))
    assert task.judge is None
    assert task.provenance()["judge"] == "none"
    assert task.score({"0": "perhaps"}).unextracted == 1


@pytest.mark.parametrize(("url", "model"), [("localhost", "m"), ("http://x", ""), ("", "m")])
def test_url_and_model_must_both_be_given(url, model):
    with pytest.raises(ConfigError, match=r"url .* and model must both be given"):
        Judge(JudgeOptions(url=url, model=model))


@pytest.mark.parametrize("content", ["", "[]", '{"reply": '])
def test_a_damaged_memory_is_asked_anew(yes_no, server, content):
    yes_no.score({"0": "<reply: ~yes~>"})
    (path,) = (cache_folder() / "judge").iterdir()
    path.write_text(content)
    assert yes_no.score({"0": "<reply: ~yes~>"}).value == 1
    assert len(server.asked) == 2


def test_without_httpx2_it_says_what_to_install(monkeypatch):
    import lossylens_toolkit

    for name in ("openai_client", "timed_http"):
        monkeypatch.delitem(sys.modules, f"lossylens_toolkit.{name}", raising=False)
        monkeypatch.delattr(lossylens_toolkit, name, raising=False)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(RequirementError, match=r"pip install 'lossylens-toolkit\[remote\]'"):
        Judge(JudgeOptions(url="http://localhost/v1", model="wise"))


def test_options_without_a_judge_are_named(write, pictures):
    path = write(f"index\timage\tquestion\tanswer\n0\t{pictures[0]}\tIs it?\tYes\n")
    with pytest.raises(PluginError, match=r"YesNo: .* has JudgedOptions, not TsvOptions"):
        YesNo(TsvOptions(data=str(path)))
