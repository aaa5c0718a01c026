"""A language model that reads answers which fixed rules cannot read.

Any server with the OpenAI interface will do.  Replies are kept in the cache by
server, model, prompt and attempt, so that scoring again asks nothing again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from lossylens.toolkit.cache import cache_folder
from lossylens.toolkit.tsv_task.options import JudgeOptions

_T = TypeVar("_T")


class Judge:
    """Asks a language model, and remembers what it replied.

    Args:
        options: which model, where.

    Raises:
        ConfigError: the options do not name a server and a model.
        RequirementError: httpx2 is not installed.
    """

    def __init__(self, options: JudgeOptions) -> None:
        # Imported here because tasks without a judge work without httpx2.
        from lossylens.toolkit import openai_client

        self.options = options
        server = openai_client.Server(
            name="judge",
            url=options.url,
            model=options.model,
            key_variable=options.key_variable,
            timeout=options.timeout,
            tries=options.tries,
            pause=options.pause,
            connections=max(1, options.workers),
            failures=0,
        )
        self._client = openai_client.ChatClient(server)
        # Scoring goes on without the judge; what it did not read counts as wrong.
        self._failures = (openai_client.NoReplyError, openai_client.ServerUnavailableError)
        self._folder = cache_folder() / "judge"

    def provenance(self) -> Mapping[str, str]:
        """Return what the manifest should say about the judge."""
        return {"judge": self.options.model, "judge_url": self.options.url}

    def read(self, prompt: str, understood: Callable[[str], _T | None], tries: int) -> _T | None:
        """Ask until *understood* makes something of a reply.

        Args:
            prompt: what to ask.
            understood: returns what a reply says, None if that is unclear.
            tries: how often to ask, at most, while replies are unclear.

        Returns:
            What the reply says, None if no reply came or none was clear.

        Raises:
            ConfigError: the server refuses the request.
        """
        for attempt in range(tries):
            reply = self._reply(prompt, attempt)
            if reply is None:
                return None
            found = understood(reply)
            if found is not None:
                return found
        return None

    def map(self, read: Callable[[_T], Any], items: Sequence[_T]) -> list[Any]:
        """Call *read* for each of *items*, several at a time; return the results in order."""
        with ThreadPoolExecutor(max(1, self.options.workers)) as pool:
            try:
                return list(pool.map(read, items))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _reply(self, prompt: str, attempt: int) -> str | None:
        """Return a reply, from memory if there is one; None if none came."""
        key = json.dumps([self.options.url, self.options.model, prompt, attempt])
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(path.read_bytes())["reply"])
        reply = self._ask(prompt)
        if reply is not None:
            _keep(path, {"prompt": prompt, "reply": reply, "model": self.options.model})
        return reply

    def _ask(self, prompt: str) -> str | None:
        messages = [{"role": "user", "content": prompt}]
        try:
            reply = self._client.complete(
                messages, temperature=0, max_tokens=self.options.max_tokens
            )
        except self._failures:
            return None
        return reply.text


def _keep(path: Path, entry: Mapping[str, str]) -> None:
    """Write an entry of the memory; a folder that cannot be written to is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.{id(entry)}.tmp")
        temporary.write_text(json.dumps(entry))
        temporary.replace(path)
