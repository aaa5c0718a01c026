"""Requests to servers that take their time, whatever they are at."""

from __future__ import annotations

import gc
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lossylens_toolkit.timed_http import BrokenError, TimedClient, UnreachableError, is_address

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: "


@pytest.fixture
def serve():
    """Return a function that starts a server of one connection and returns its port."""
    threads, listeners = [], []

    def start(*pieces: bytes, every: float = 0.05) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(every)
                except OSError:
                    pass

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return listener.getsockname()[1]

    yield start
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def client(timeout: float = 0.4, longest: int = 100) -> TimedClient:
    return TimedClient(timeout=timeout, connections=4, longest=longest)


def post(port: int, scheme: str = "http", **options):
    return client(**options).post(f"{scheme}://127.0.0.1:{port}/", b"{}", {})


def test_a_response(serve):
    response = post(serve(b"HTTP/1.1 404 No\r\nX-Y: z\r\nContent-Length: 2\r\n\r\n", b"no"))
    assert (response.status, response.headers["x-y"], response.content) == (404, "z", b"no")


# Each would end without being a response, but later.
@pytest.mark.parametrize(
    "pieces",
    [
        [b"H"] * 100,
        [b"HTTP/1.1 200 OK\r\n", *[b"X: 1\r\n"] * 100],
        [b"HTTP/1.1 200 OK\r\nX: ", *[b"x"] * 100],
        [HEAD + b"99\r\n\r\n", *[b" "] * 98],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 98],
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 100,
        [b""] * 20,
    ],
)
def test_whatever_drips_is_given_up(serve, pieces):
    with pytest.raises(TimeoutError):
        post(serve(*pieces))


def test_a_handshake_that_drips_is_no_connection(serve):
    with pytest.raises(UnreachableError, match=r"no connection within 0\.32 s"):
        post(serve(b"\x16\x03\x03\x40\x00", *[b"\x02"] * 100), "https")


def test_other_faults(serve):
    with pytest.raises(BrokenError):
        post(serve(HEAD + b"9\r\n\r\n", b"cut"))
    with pytest.raises(BrokenError, match="too long"):
        post(serve(HEAD + b"9\r\n\r\n", b"too long!"), longest=8)
    with pytest.raises(BrokenError):
        post(serve(b"SSH-2.0-OpenSSH\r\n"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError, match="Connect call failed"):
        post(port)


def test_several_threads_ask_at_once_and_the_thread_of_the_loop_ends(serve):
    ports = [serve(HEAD + b"1\r\n\r\n" + b"%d" % number, every=0.2) for number in range(4)]
    asked = client(timeout=9.0)
    with ThreadPoolExecutor(4) as pool:
        urls = [f"http://127.0.0.1:{port}/" for port in ports]
        found = [pool.submit(asked.post, url, b"", {}) for url in urls]
        assert [each.result().content for each in found] == [b"0", b"1", b"2", b"3"]
    loops = [each for each in threading.enumerate() if each.name == "timed-http"]
    assert loops
    del asked, found
    gc.collect()
    for each in loops:
        each.join(10)
        assert not each.is_alive()


@pytest.mark.parametrize(
    ("url", "fit"),
    [
        ("http://localhost:8000/v1", True),
        ("https://example.org", True),
        ("ftp://example.org", False),
        ("localhost:8000", False),
        ("http://", False),
        ("http://x:0/", False),
    ],
)
def test_addresses(url, fit):
    assert is_address(url) == fit
