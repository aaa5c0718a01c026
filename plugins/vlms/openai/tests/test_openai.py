"""The VLM against a real server process that fails in every way."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from lossylens.cli import main
from lossylens.codec import SOURCE
from lossylens.errors import ConfigError
from lossylens.store.database import Store
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind
from lossylens_toolkit.openai_client import ServerUnavailableError
from lossylens_vlm_openai.plugin import Prices
from PIL import Image

_numbers = itertools.count()


def picture(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (9, 14, 3), dtype=np.uint8))


def digest(image: Image.Image) -> str:
    shape = repr((image.mode, image.size)).encode()
    return hashlib.sha256(shape + image.tobytes()).hexdigest()[:8]


def question(orders: str, **fields) -> Question:
    # The server counts attempts by text, which therefore occurs once.
    return Question(QuestionKind.OPEN, f"{next(_numbers)}? [{orders}]", **fields)


def about(images: Image.Image | list[Image.Image], *questions: Question) -> ImageQuestions:
    given = tuple(images) if isinstance(images, list) else (images,)
    return ImageQuestions(given, questions, tuple(Condition(SOURCE, each.size) for each in given))


def ask(vlm, orders: str):
    return vlm.answer([about(picture(), question(orders))])[0][0]


# What passes


@pytest.mark.parametrize(
    "orders",
    [
        "429 | 429 | ok yes",
        "429 after=0.1 | ok yes",
        "500 | 502 | 503 | ok yes",
        "503 after=0 | ok yes",
        "408 | 409 | ok yes",
        "599 | ok yes",
        "hang 1.5 | ok yes",
        "drip | ok yes",
        "headers | ok yes",
        "cut | ok yes",
        "eof | ok yes",
        "drop | drop | ok yes",
        "raw html | raw deep | ok yes",
        'json {"error":{"message":"overloaded"}} | json {"choices":[]} | ok yes',
        'json {"error":{"message":"overloaded","code":502}} | ok yes',
        'json {"choices":[{"message":{"content":"Y"},"finish_reason":"error"}]} | ok yes',
        'json {"choices":[{"message":{"content":""},"error":{"code":502}}]} | ok yes',
        'json {"choices":null} | json {"choices":[{"message":null}]} | ok yes',
    ],
)
def test_what_passes_is_asked_again(make, server, orders):
    answer = ask(make(), orders)
    assert (answer.text, answer.failure) == ("yes", "")
    assert len(server.asked) == orders.count("|") + 1


@pytest.mark.parametrize(
    ("orders", "least"),
    [
        ("429 after=1 | ok yes", 1.0),
        # Dates count whole seconds, so up to one is lost.
        ("429 date=2 | ok yes", 0.9),
        ("ok x-ratelimit-remaining-requests=0 x-ratelimit-reset-requests=0m0.5s yes", 0.5),
        ("ok x-ratelimit-remaining-tokens=0 x-ratelimit-reset-tokens=500ms yes", 0.5),
    ],
)
def test_the_server_says_how_long_everybody_waits(make, server, orders, least):
    vlm = make(concurrency=2)
    vlm.answer([about(picture(), question(orders))])
    vlm.answer([about(picture(), question("ok"))])
    first, *_, last = server.asked
    assert last["time"] - first["time"] >= least


@pytest.mark.parametrize(
    "order",
    ["500", "429", "429 after=0", "503 after=0", "429 after=-9", "429 date=-9", "429 after=x"],
)
def test_pauses_grow_whatever_the_server_says(make, server, order):
    assert ask(make(pause=0.2), f"{order} | {order} | {order} | ok yes").text == "yes"
    times = [each["time"] for each in server.asked]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for pause, whole in zip(pauses, (0.2, 0.4, 0.8), strict=True):
        assert pause >= whole / 2


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "Yes"}],
        [{"type": "text", "text": "Y"}, {"text": "e"}, {"type": "output_text", "text": "s"}],
        [{"type": "thinking", "thinking": "..."}, {"type": "text", "text": "Yes"}],
        [{"type": "reasoning", "text": "No?"}, {"type": "text", "text": "Yes"}],
        ["Y", "es"],
    ],
)
def test_the_texts_of_the_parts_of_a_content_are_the_answer(make, content):
    body = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    assert ask(make(), f"json {json.dumps(body)}").text == "Yes"


# What does not pass

FILTERED = "the model wrote nothing (it ended with content_filter)"


def reply(content, finish="stop", **message) -> str:
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return f"json {json.dumps({'choices': [choice]})}"


@pytest.mark.parametrize(
    ("orders", "reason", "requests"),
    [
        ("400", "400 Bad Request: no: nobody is welcome", 1),
        ("403", "403 Forbidden: no: nobody is welcome", 1),
        ("403 says=flagged_by_moderation", "403 Forbidden: flagged by moderation", 1),
        ("413", "413 ", 1),
        ("422", "422 ", 1),
        ("451", "451 ", 1),
        ('json {"error":{"message":"Forbidden","code":403}}', "403 Forbidden: Forbidden", 1),
        ('json {"error":{"message":"unsafe","code":"content_filter"}}', "no answer: unsafe", 1),
        (reply(None, "content_filter"), FILTERED, 1),
        (reply("", "content_filter"), FILTERED, 1),
        (reply(" \n", "content_filter"), FILTERED, 1),
        (reply([], "content_filter"), FILTERED, 1),
        (reply([{"type": "text", "text": ""}], "content_filter"), FILTERED, 1),
        (reply([{"type": "thinking", "thinking": "Hm"}], "length"), "it ended with length", 1),
        (reply("", "length"), "(it ended with length)", 1),
        (reply("", "stop"), "(it ended with stop)", 1),
        (reply("", None), "(it ended with no reason)", 1),
        ('json {"choices":[{"message":{}}]}', "(it ended with no reason)", 1),
        (reply(None, refusal="I cannot."), "the model wrote nothing (refused: I cannot.)", 1),
        (reply([{"type": "refusal", "refusal": "I won't."}]), "(refused: I won't.)", 1),
        (reply({"a": "Yes"}), 'the content of the reply is no text: {"a": "Yes"}', 1),
        (reply([{"type": "image_url"}]), 'is no text: [{"type": "image_url"}]', 1),
        (reply([{"type": ["text"], "text": "x"}]), 'is no text: [{"type": ["text"]', 1),
        (reply(7), "the content of the reply is no text: 7", 1),
    ],
)
def test_a_question_fails_alone(make, server, orders, reason, requests):
    failed = fails_alone(make(), server, orders, requests)
    assert reason in failed.failure
    assert not failed.transient


@pytest.mark.parametrize(
    ("orders", "reason"),
    [
        ("500", "500 Internal Server Error: no: nobody is welcome (4 attempts)"),
        ("408", "408 Request Timeout"),
        ("drop", "the connection broke"),
        ("cut", "the connection broke"),
        ("eof", "the reply is cut off or no JSON (4 attempts)"),
        ("raw html", "the reply is cut off or no JSON (4 attempts)"),
        ("hang 1.5", "no reply within 0.5 s (4 attempts)"),
        (reply("Y", "error"), "the reply holds no answer"),
    ],
)
def test_a_question_fails_for_now(make, server, orders, reason):
    failed = fails_alone(make(), server, orders, 4)
    assert reason in failed.failure
    assert failed.transient


def fails_alone(vlm, server, orders, requests):
    """Return the failure of a question between others, asked so often."""
    bad = question(orders)
    [[first, failed, last]] = vlm.answer(
        [about(picture(), question("ok a"), bad, question("ok b"))]
    )
    assert (first.text, failed.text, last.text) == ("a", None, "b")
    assert "\n" not in failed.failure
    assert sum(each["question"] == bad.text for each in server.asked) == requests
    return failed


@pytest.mark.parametrize("order", ["drip", "headers", "hang 5"])
def test_a_time_out_is_for_the_whole_attempt(make, order):
    # The server would go on for 5 s and then break the connection.
    answer = ask(make(tries=1, timeout=0.3), order)
    assert answer.failure.endswith("no reply within 0.3 s")
    assert answer.transient


@pytest.mark.parametrize("order", ["403", "400"])
@pytest.mark.parametrize("control", ["ok", "429 | ok", reply("", "length")])
def test_whoever_is_let_in_otherwise_is_not_the_reason_of_a_refusal(make, server, order, control):
    answer = ask(make(model=f"{next(_numbers)} [{order} | {control}]"), "")
    assert not answer.transient
    assert f"{order} " in answer.failure
    assert [each["shape"] for each in server.asked[1:]] == [["image_url", "text"]] * (
        control.count("|") + 1
    )


def test_a_refusal_that_nothing_explains_is_one_for_now(make):
    answer = ask(make(model=f"{next(_numbers)} [403 | 500]"), "")
    assert answer.transient
    assert "403 Forbidden" in answer.failure


@pytest.mark.parametrize("order", ["400", "403", "422", "403 says=your_account_was_flagged"])
def test_who_is_refused_whatever_he_asks_has_wrong_settings(make, server, order):
    with pytest.raises(ConfigError, match=r"4\d\d .*; it refuses a control question, too"):
        ask(make(model=f"[{order}]"), "")
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("orders", "reason"),
    [
        ("401", "401 Unauthorized.*no key was sent, set OPENAI_API_KEY"),
        ("402", "402 Payment Required"),
        ("404", "404 Not Found"),
        ("429 code=insufficient_quota", "429 Too Many Requests"),
        ("302 to=http://127.0.0.1:9/", "302 Found"),
        ('json {"answer":"yes"}', "not a reply of the OpenAI interface"),
    ],
)
def test_wrong_settings_stop_the_run_at_once(make, server, orders, reason):
    with pytest.raises(ConfigError, match=f"^openai at {server.url}: {reason}"):
        ask(make(), orders)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("orders", "reason"),
    [
        ("429", r"429 Too Many Requests.*\(4 attempts\); run again later"),
        ("429 after=86400", "it asks to wait for 86400 s, run again later"),
    ],
)
def test_a_closed_door_stops_the_run(make, orders, reason):
    with pytest.raises(ServerUnavailableError, match=reason):
        ask(make(), orders)


def test_a_server_that_is_not_there_stops_the_run(make):
    with pytest.raises(ServerUnavailableError, match="cannot be reached"):
        ask(make(url="http://127.0.0.1:9/v1", tries=2), "ok")


def test_an_outage_stops_the_run(make, server):
    vlm = make(failures=3, tries=1, concurrency=1)
    assert [ask(vlm, orders).text for orders in ("500", "500", "ok yes", "500")][2] == "yes"
    with pytest.raises(ServerUnavailableError, match="3 requests in a row failed"):
        vlm.answer([about(picture(), *(question("500") for _ in range(9)))])
    assert len(server.asked) <= 4 + 3
    assert ask(vlm, "ok yes").text == "yes"


def test_questions_about_one_image_that_is_refused_are_no_outage(make):
    vlm = make(failures=3, tries=1, concurrency=1)
    [answers] = vlm.answer([about(picture(), *(question("413") for _ in range(9)))])
    assert {(answer.text, answer.transient) for answer in answers} == {(None, False)}


@pytest.mark.parametrize(
    ("order", "error", "reason"),
    [
        ("401", ConfigError, "401 Unauthorized"),
        ("429", ServerUnavailableError, "429 Too Many Requests"),
        ("500", ServerUnavailableError, "3 requests in a row failed"),
    ],
)
def test_answers_that_came_before_the_end_are_given(make, server, order, error, reason):
    vlm = make(model=f"{next(_numbers)} [ok x4 | {order}]", failures=3, tries=2, concurrency=2)
    items = [about(picture(seed), *(question("") for _ in range(3))) for seed in range(4)]
    given = [answer for of_image in vlm.answer(items) for answer in of_image]
    assert len(given) == 12
    assert sum(answer.text is not None for answer in given) == 4
    failed = [answer for answer in given if answer.text is None]
    assert all(answer.transient and answer.failure for answer in failed)
    before = len(server.asked)
    with pytest.raises(error, match=reason):
        vlm.answer(items)
    assert len(server.asked) == before


def test_answers_under_way_at_the_end_are_given(make, server):
    vlm = make(concurrency=2, timeout=9.0)
    [[slow], [refused]] = vlm.answer(
        [about(picture(1), question("late 0.5")), about(picture(2), question("401"))]
    )
    assert slow.text == "late"
    assert refused.transient
    assert refused.failure.startswith("not asked: openai at ")


def test_threads_that_wait_give_up_after_an_error(make):
    start = time.monotonic()
    with pytest.raises(ConfigError):
        make(pause=60.0, longest_pause=60.0).answer(
            [about(picture(), question(orders)) for orders in ("500", "hang 0.2 | 401", "401")]
        )
    assert time.monotonic() - start < 20


# What is sent


def test_the_image_comes_first_and_whole(make, server):
    image = picture(7)
    image.info.update(icc_profile=b"profile", transparency=(1, 2, 3))
    asked = question("ok", max_new_tokens=7)
    vlm = make(system="Be brief.", detail="high", extra={"seed": 3})
    assert vlm.answer([about(image, asked)])[0][0].text == f"seen {digest(image)}"
    (request,) = server.asked
    assert request["path"] == "/v1/chat/completions"
    assert request["shape"] == ["image_url", "text"]
    assert request["roles"] == ["system", "user"]
    assert request["question"] == asked.text
    assert request["detail"] == "high"
    assert request["body"] == {"model": "seer", "max_tokens": 7, "temperature": 0.0, "seed": 3}
    assert set(request["chunks"]) == {"IHDR", "IDAT", "IEND"}
    assert image.info["transparency"] == (1, 2, 3)


def sent(server) -> list[str]:
    """What each request held: texts, and digests of images in brackets."""
    return ["".join(each["content"]) for each in server.asked]


def test_several_images_stand_at_their_markers(make, server, tmp_path):
    """In text and options, in any order and number; an image that is not marked is not sent."""
    images = [picture(seed) for seed in (31, 32, 33)]
    one, two, three = (f"({digest(each)})" for each in images)
    number = f"Is {next(_numbers)} here?"
    questions = (
        Question(QuestionKind.OPEN, f"{number} <image 2> before <image 1>, <image 2>"),
        Question(QuestionKind.OPEN, f"{number} All?"),
        Question(
            QuestionKind.MULTIPLE_CHOICE,
            f"{number} Like <image 3>?",
            options={"A": "<image 1>", "B": "no"},
        ),
        Question(QuestionKind.OPEN, f"{number} <image 4>?"),
    )
    folder = tmp_path / "shared"
    for vlm in (make(detail="low"), make(image_folder=str(folder), concurrency=1)):
        server.forget()
        [answers, [alone]] = vlm.answer(
            [
                about(images, *questions),
                about([images[2], images[0]], Question(QuestionKind.OPEN, f"{number} Both?")),
            ]
        )
        assert sorted(sent(server)) == sorted(
            [
                f"{number} {two} before {one}, {two}",
                f"{one}{two}{three}{number} All?",
                f"Question: {number} Like {three}?\nOptions:\nA. {one}\nB. no\n"
                "Please select the correct answer from the options above. \n",
                f"{three}{one}{number} Both?",
            ]
        )
        assert [each.text is None for each in [*answers, alone]] == [False] * 3 + [True, False]
        assert answers[3].failure == "the question speaks of <image 4>, but there are 3 images"
        assert not answers[3].transient
    assert list(folder.iterdir()) == []


def test_a_marker_without_an_image_keeps_nothing_waiting(make, server):
    """Also where it is the first question, which others wait for."""
    bad = Question(QuestionKind.OPEN, "<image 0>")
    [[refused, *answered], [lonely]] = make().answer(
        [about(picture(), bad, question("ok a"), question("ok b")), about(picture(1), bad)]
    )
    assert [each.text for each in answered] == ["a", "b"]
    assert refused == lonely
    assert refused.failure == "the question speaks of <image 0>, but there is one image"
    assert len(server.asked) == 2


def test_the_evaluators_wording(make, server):
    asked = Question(QuestionKind.SHORT_ANSWER, f"What is {next(_numbers)}?")
    make().answer([about(picture(), asked)])
    (request,) = server.asked
    expected = f"{asked.text}\nAnswer the question using a single word or phrase."
    assert request["question"] == expected


def test_models_that_take_other_fields(make, server):
    ask(make(temperature=None, limit_field="max_completion_tokens", max_tokens=9), "ok")
    assert server.asked[0]["body"] == {"model": "seer", "max_completion_tokens": 9}


@pytest.mark.parametrize("url", ["", "{folder}"])
def test_images_in_a_shared_folder(make, server, tmp_path, url):
    folder = tmp_path / "shared"
    vlm = make(image_folder=str(folder), image_url=url.format(folder=f"file://{folder}/"))
    images = [picture(seed) for seed in range(3)]
    answers = vlm.answer([about(image, question("ok"), question("ok")) for image in images])
    assert [of[0].text for of in answers] == [f"seen {digest(image)}" for image in images]
    assert all(each["url"].startswith(f"file://{folder}"[:60]) for each in server.asked)
    assert list(folder.iterdir()) == []


def test_answers_are_in_order_and_requests_bounded(make, server):
    vlm = make(concurrency=3, warm_first=False, timeout=10)
    items = [
        about(picture(seed), *(question(f"ok {seed} {number}") for number in range(4)))
        for seed in range(5)
    ]
    answers = vlm.answer([*items[:2], about(picture(9)), *items[2:]])
    assert answers.pop(2) == []
    texts = [[each.text for each in of_image] for of_image in answers]
    assert texts == [[f"{seed} {number}" for number in range(4)] for seed in range(5)]
    assert max(each["busy"] for each in server.asked) == 3


def test_the_first_question_warms_the_prefix_cache(make, server):
    vlm = make(concurrency=6)
    items = [about(picture(seed + 50), *(question("ok") for _ in range(4))) for seed in range(3)]
    answers = vlm.answer(items)
    for of_image in answers:
        assert [each.usage["cached_tokens"] for each in of_image] == [0, 100, 100, 100]
    done: set[tuple[str, str]] = set()
    for event in server.events:
        first = next(i for i in items if digest(i.image) == event["image"]).questions[0].text
        if event["event"] == "answered":
            done.add((event["image"], event["question"]))
        elif event["question"] != first:
            assert (event["image"], first) in done


# Tokens, cost and keys


def test_tokens_and_cost(make):
    prices = Prices(input=2.0, cached_input=0.5, output=10.0)
    item = about(picture(77), question("ok"), question("ok"))
    [[first, second]] = make(prices=prices).answer([item])
    assert first.usage == {
        "input_tokens": 120,
        "cached_tokens": 0,
        "output_tokens": 2,
        "cost": pytest.approx((120 * 2 + 2 * 10) / 1e6),
    }
    assert second.usage["cost"] == pytest.approx((20 * 2 + 100 * 0.5 + 2 * 10) / 1e6)


def test_the_servers_own_cost_and_odd_counts(make):
    usage = {
        "prompt_tokens": True,
        "completion_tokens": -1,
        "cost": 0.25,
        "prompt_tokens_details": [10**400],
    }
    body = {"choices": [{"message": {"content": "yes"}}], "usage": usage}
    assert ask(make(), f"json {json.dumps(body)}").usage == {"cost": 0.25}


SECRET = "sk-verysecret"


def test_the_key_is_sent_and_kept_out_of_messages(make, server, monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {SECRET}\n")
    vlm = make(key_variable="MY_KEY")
    answer = ask(vlm, "400")
    assert server.asked[0]["key"] == f"Bearer {SECRET}"
    assert "no: [key] is welcome" in answer.failure
    with pytest.raises(ConfigError) as caught:
        ask(vlm, "404")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(vars(vlm)) + repr(vars(vlm._client))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"key_variable": SECRET}, "the name of an environment variable, not the key"),
        ({"url": f"http://user:{SECRET}@localhost/v1"}, "neither password nor query"),
        ({"url": f"http://localhost/v1?key={SECRET}"}, "neither password nor query"),
        ({"url": "localhost:8000"}, r"url \(http://...\) and model"),
        ({"url": "http://[/v1"}, r"url \(http://...\) and model"),
        ({"model": ""}, r"url \(http://...\) and model"),
        ({"timeout": 0.0}, "timeout cannot be 0.0"),
        ({"tries": 0}, "tries cannot be 0"),
        ({"concurrency": 0}, "connections cannot be 0"),
        ({"extra": {"stream": True}}, "extra must not hold stream"),
        ({"extra": {"max_tokens": 3}}, "extra must not hold max_tokens"),
        ({"image_url": "http://x/"}, "image_folder; give both"),
        ({"image_folder": "/proc/nowhere"}, "image_folder /proc/nowhere: "),
    ],
)
def test_unfit_options(make, options, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        make(**options)
    assert SECRET not in str(caught.value)


def test_a_key_that_is_none(make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET} \u00e9")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY holds no key") as caught:
        ask(make(), "ok")
    assert SECRET not in str(caught.value)


# A whole run


@pytest.fixture
def write_config(tmp_path, server):
    def write(**options) -> Path:
        path = tmp_path / "config.yaml"
        vlm = {"url": server.url, "model": "seer", "key_variable": "MY_KEY", **options}
        content = {
            "codecs": {"jpeg": {"levels": ["q5"]}},
            "vlms": {"openai": vlm},
            "tasks": {"scenes": {"images": 2}},
            "run": {"out": str(tmp_path / "run"), "workers": 1},
        }
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_a_run_keeps_tokens_and_no_key(write_config, tmp_path, server, monkeypatch, capfd):
    monkeypatch.setenv("MY_KEY", SECRET)
    assert main(["run", str(write_config(prices={"input": 1.0}))]) == 0
    with Store(tmp_path / "run", writable=False) as store:
        rows = store.rows("SELECT usage FROM predictions")
        total = store.rows("SELECT sum(json_extract(usage, '$.cost')) FROM predictions")[0][0]
    assert len(rows) == len(server.asked) > 4
    assert all(json.loads(row["usage"])["input_tokens"] == 120 for row in rows)
    assert total == pytest.approx(len(rows) * 120 / 1e6)
    assert {each["key"] for each in server.asked} == {f"Bearer {SECRET}"}
    kept = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    written = b"".join(kept) + "".join(capfd.readouterr()).encode()
    assert b"MY_KEY" in written
    assert SECRET.encode() not in written


def test_patience_and_prices_do_not_ask_anew(write_config, server):
    assert main(["run", str(write_config())]) == 0
    before = len(server.asked)
    changed = {"timeout": 9.0, "concurrency": 2, "prices": {"output": 3.0}, "tries": 2}
    assert main(["run", str(write_config(**changed))]) == 0
    assert len(server.asked) == before
    assert main(["run", str(write_config(max_tokens=5))]) == 0
    assert len(server.asked) > before


INTERRUPTED = """
    import sys
    from lossylens_vlm_openai.plugin import OpenAIOptions
    from lossylens_vlm_openai.vlm import OpenAIVlm
    from lossylens.codec import SOURCE
    from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind
    from PIL import Image
    vlm = OpenAIVlm(OpenAIOptions(url=sys.argv[1], model="m", pause=60.0))
    asked = Question(QuestionKind.OPEN, sys.argv[2])
    condition = Condition(SOURCE, (4, 4))
    vlm.answer([ImageQuestions((Image.new("RGB", (4, 4)),), (asked,), (condition,))])
"""


def test_an_interrupt_does_not_wait_for_pauses(server):
    text = question("500").text
    program = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), server.url, text]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(program, stderr=subprocess.PIPE, env=environment)
    while not any(each["event"] == "answered" for each in server.events):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
