"""Against a real server on this machine, which breaks off, forgets and lies on request."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from lossylens.errors import DataError
from lossylens_toolkit.download import download

CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Server(ThreadingHTTPServer):
    """Serves CONTENT.

    Attributes:
        plan: per request, what to do: ``None`` for all well, a number of bytes
            after which to break off, or a status to answer with.
        ranges: whether parts can be asked for.
        version: the file's ETag.
        asked: the Range header of each request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan = []
        self.ranges = True
        self.lies = False
        self.version = '"one"'
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/data.tsv"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        step = server.plan.pop(0) if server.plan else None
        if isinstance(step, str):
            self.send_error(int(step))
            return
        condition = self.headers.get("If-Range", server.version)
        start = 0
        if wanted and server.ranges and condition == server.version:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if server.lies else start
            where = f"bytes {shown}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.send_header("Content-Range", where)
        if server.version:
            self.send_header("ETag", server.version)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:] if step is None else CONTENT[start : start + step])


@pytest.fixture
def server():
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "data.tsv"


def fetch(server, target, md5=MD5):
    download(server.url, target, md5, pause=0)


def names(target):
    return sorted(path.name for path in target.parent.iterdir() if not path.name.endswith("lock"))


def test_a_file_is_downloaded_once(server, target):
    fetch(server, target)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None]
    assert names(target) == ["data.tsv"]


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(server, target):
    server.plan = [100_000, 50_000]
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_a_connection_that_keeps_bringing_something_is_not_given_up(server, target):
    server.plan = [50_000] * 10
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_an_earlier_attempt_goes_on(server, target):
    server.plan = [100_000, "503", "503", "503", "503", "503"]
    with pytest.raises(DataError, match="100000 bytes are kept, and the next attempt goes on"):
        fetch(server, target)
    assert not target.exists()
    assert "data.tsv.part" in names(target)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=100000-"
    assert names(target) == ["data.tsv"]


def test_a_file_that_changed_in_between_is_begun_anew(server, target):
    server.plan = [100_000, "503", "503", "503", "503", "503"]
    with pytest.raises(DataError):
        fetch(server, target)
    (target.parent / "data.tsv.part").write_bytes(b"x" * 100_000)
    server.version = '"two"'
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_sends_no_parts_is_asked_for_the_whole(server, target):
    server.plan = [100_000]
    server.ranges = False
    fetch(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("version", ["", 'W/"weak"'])
def test_a_server_without_strong_versions_can_be_gone_on_with(server, target, version):
    server.plan = [100_000]
    server.version = version
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_that_sends_another_part_is_asked_again(server, target):
    server.plan = [100_000]
    server.lies = True
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", None]


def test_a_part_that_is_complete_is_taken(server, target):
    target.parent.mkdir()
    (target.parent / "data.tsv.part").write_bytes(CONTENT)
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_begun_anew(server, target):
    target.parent.mkdir()
    (target.parent / "data.tsv.part").write_bytes(CONTENT + b"x")
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, target):
    with pytest.raises(DataError, match=f"MD5 of what came is {MD5}, not {'0' * 32}"):
        fetch(server, target, "0" * 32)
    assert names(target) == []


def test_no_checksum_is_no_error(server, target):
    fetch(server, target, "")
    assert target.read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_an_error_at_once(server, target):
    server.plan = ["404"]
    with pytest.raises(DataError, match=r"data\.tsv: 404"):
        fetch(server, target)
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_an_error(target):
    with pytest.raises(DataError, match="cannot be downloaded"):
        download("http://127.0.0.1:9/data.tsv", target, pause=0)


def test_other_addresses_are_refused(target):
    with pytest.raises(DataError, match="not the address of a file on the web"):
        download("file:///etc/passwd", target)


def test_a_folder_that_cannot_be_made_is_an_error(server, tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        fetch(server, tmp_path / "folder" / "data.tsv")


def test_two_downloads_at_once_give_one(server, target):
    threads = [threading.Thread(target=fetch, args=(server, target)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert server.asked == [None]
