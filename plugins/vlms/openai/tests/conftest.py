from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lossylens_vlm_openai.plugin import OpenAIOptions
from lossylens_vlm_openai.vlm import OpenAIVlm


class Server:
    """A server process and what it has been asked since :meth:`forget`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("w") as stream:
            script = Path(__file__).with_name("server.py")
            self.process = subprocess.Popen([sys.executable, script], stdout=stream)
        while not (lines := log.read_text().splitlines()):
            assert self.process.poll() is None
        self.url = f"http://127.0.0.1:{lines[0]}/v1"
        self.forget()

    def forget(self) -> None:
        self._past = len(self.log.read_text().splitlines())

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()[self._past :]]

    @property
    def asked(self) -> list[dict]:
        return [each for each in self.events if each["event"] == "asked"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "log")
    yield server
    server.stop()


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.forget()
    return running


@pytest.fixture
def make(server):
    """Return a function that builds the VLM for the server, with little patience."""

    def build(**options) -> OpenAIVlm:
        patience = {"tries": 4, "pause": 0.01, "timeout": 0.5, "longest_pause": 2.0}
        given = {"url": server.url, "model": "seer", **patience, **options}
        return OpenAIVlm(OpenAIOptions(**given))

    return build
