"""What servers say about waiting."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate

import pytest
from lossylens_toolkit.rate_limits import Gate, back_off, requested_pause


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-7"}, None),
        ({"retry-after-ms": "0", "retry-after": "7"}, 7),
        ({"retry-after": "0", "ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "later"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000000000"}, None),
    ],
)
def test_headers(headers, seconds):
    assert requested_pause(headers) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("factor", [1, 1000])
def test_points_in_time(factor):
    reset = str((time.time() + 60) * factor)
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    assert requested_pause(headers) == pytest.approx(60, abs=5)
    date = formatdate(time.time() + 60, usegmt=True)
    assert requested_pause({"retry-after": date}) == pytest.approx(60, abs=5)


def test_back_off_doubles_with_jitter_up_to_the_longest():
    for tries, whole in ((1, 2.0), (2, 4.0), (3, 8.0), (9, 10.0), (10**6, 10.0)):
        pauses = {back_off(tries, 2.0, 10.0) for _ in range(20)}
        assert all(whole / 2 <= pause <= whole for pause in pauses)
        assert len(pauses) > 1


def test_the_gate_holds_back_all_and_lets_them_go_when_it_is_closed():
    gate = Gate()
    gate.wait()
    gate.hold(0.2)
    start = time.monotonic()
    gate.wait()
    assert time.monotonic() - start >= 0.2
    gate.hold(60.0)
    threading.Timer(0.1, gate.close).start()
    with pytest.raises(InterruptedError):
        gate.wait()
    with pytest.raises(InterruptedError):
        gate.sleep(0)
    gate.reopen()
    gate.sleep(0)
