"""``lossylens fetch``: from a web server and from a hub, both of them real servers."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from lossylens.cli import main

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "1" * 40
FILES = {
    "config.json": b'{"model_type": "llava"}',
    "model.safetensors": CONTENT,
    "pytorch_model.bin": b"a pickle",
}

PLUGIN = """
from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing, FileSource
from pathlib import Path

def missing(options):
    target = Path({target!r})
    if target.exists():
        return []
    source = FileSource({url!r}, str(target), 0.5, "CC0-1.0", {sha256!r})
    return [Missing("checkpoint far", "get it", source), *{others}]

@hookimpl
def register_codecs(register):
    register(CodecSpec(name="far", summary="far away", factory="json:loads", licence="MIT",
                       levels=(Level("q1", {{}}),), requirements=missing))
"""


class Handler(BaseHTTPRequestHandler):
    """Serves a file, and the API of a hub as far as a snapshot needs it."""

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        path = self.path.partition("?")[0]
        if path == "/far.pth":
            self.send(CONTENT, break_off=len(self.server.asked) == 1)
        elif path.startswith("/api/models/org/net"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": "2" * 40}
                for name, data in FILES.items()
            ]
            info = {
                "id": "org/net",
                "sha": COMMIT,
                "siblings": [{"rfilename": name} for name in FILES],
            }
            self.send(json.dumps(tree if "/tree/" in path else info).encode())
        elif path.startswith(f"/org/net/resolve/{COMMIT}/") or "/org/net/resolve/main/" in path:
            self.send(FILES[path.rpartition("/")[2]])
        else:
            self.send_error(404)

    def send(self, content, *, break_off=False):
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        part = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part[: len(part) // 2] if break_off else part)
        self.close_connection = True


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def far(plants, server, tmp_path):
    """Plant a codec whose checkpoint is on the server; return its path here."""
    target = tmp_path / "checkpoints" / "far.pth"

    def plant(sha256=SHA256, others="[]"):
        url = f"http://127.0.0.1:{server.server_port}/far.pth"
        content = PLUGIN.format(target=str(target), url=url, sha256=sha256, others=others)
        plants.plant("far", content, distribution="lossylens-codec-far")
        plants.distributions += ["lossylens-toolkit"]
        return target

    return plant


def test_a_file_is_got_although_the_connection_breaks(far, server, capsys):
    target = far(sha256=SHA256[:8])
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "lossylens fetch far" in said
    assert "CC0-1.0" in said
    assert main(["fetch", "Far", "--dry-run"]) == 0
    assert server.asked == []
    assert not target.exists()
    assert main(["fetch", "far"]) == 0
    assert target.read_bytes() == CONTENT
    ranges = [asked[2] for asked in server.asked]
    assert len(ranges) == 2
    assert ranges[1].startswith("bytes=")
    assert main(["fetch", "far"]) == 0
    assert "far has all its files" in capsys.readouterr().out


def test_another_file_is_refused(far, capsys):
    target = far(sha256="0" * 64)
    assert main(["fetch", "far"]) == 1
    assert "the SHA256 of what came is" in capsys.readouterr().err
    assert not target.exists()


def test_what_cannot_be_got_by_a_program_is_said(far, capsys):
    page = 'Missing("checkpoint near", "get it at example.org", FileSource("example.org"))'
    far(others=f"[{page}]")
    assert main(["fetch", "far"]) == 1
    said = capsys.readouterr().out
    assert "By hand: checkpoint near: get it at example.org" in said
    assert "Got: " in said


def test_an_unknown_name(far, capsys):
    far()
    assert main(["fetch", "fra"]) == 2
    assert "nothing installed is called 'fra'. Did you mean far?" in capsys.readouterr().err


def test_a_hub_that_is_not_reached(tmp_path):
    pytest.importorskip("huggingface_hub")
    program = (
        "from lossylens.spec import FileSource as S\n"
        "from lossylens_toolkit.fetching import fetch_source\n"
        "fetch_source(S('hf:org/net'))\n"
    )
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens there
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "HF_ENDPOINT": f"http://127.0.0.1:{held.getsockname()[1]}",
                "HF_HOME": str(tmp_path / "home"),
                "HF_HUB_OFFLINE": "0",
            },
            capture_output=True,
            text=True,
        )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("lossylens.errors.RequirementError: org/net cannot be had from the")


def test_a_repository_comes_from_the_hub_without_its_pickles(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    target = str(tmp_path / "x.bin")
    program = (
        "from lossylens.spec import FileSource as S\n"
        "from lossylens_toolkit.fetching import fetch_source\n"
        "print(fetch_source(S('hf:org/net')))\n"
        f"print(fetch_source(S('hf:org/net/model.safetensors', {target!r})))\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    snapshot, single = done.stdout.split()
    assert {path.name for path in os.scandir(snapshot)} == {"config.json", "model.safetensors"}
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert single == str(tmp_path / "x.bin")
