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
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from lossylens.errors import RequirementError, TransientError
from lossylens.failure import Failure

from lossylens_toolkit.cache_folder import cache_folder
from lossylens_toolkit.tsv_task.tsv_options import JudgeOptions

_T = TypeVar("_T")
_R = TypeVar("_R")

# What no server that judges answers could object to.
_CONTROL = "Question: Is two an even number?\nAnswer: It is.\nReply with yes or no."


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
        from lossylens_toolkit import openai_client

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
        )
        self._no_reply = openai_client.NoReplyError
        self._client = openai_client.ChatClient(server, _messages(_CONTROL))
        self._folder = cache_folder() / "judge"

    def provenance(self) -> Mapping[str, str]:
        """Return what the manifest should say about the judge."""
        return {"judge": self.options.model, "judge_url": self.options.url}

    def read(
        self, prompt: str, understood: Callable[[str], _T | None], tries: int
    ) -> _T | Failure | None:
        """Ask until *understood* makes something of a reply.

        Args:
            prompt: what to ask.
            understood: returns what a reply says, None if that is unclear.
            tries: how often to ask, at most, while replies are unclear.

        Returns:
            What the reply says; None if none was clear; a failure if there is no
            reply to this prompt, and would be none later.

        Raises:
            ConfigError: the server refuses the settings.
            TransientError, RequirementError: there is no reply for now.
        """
        for attempt in range(tries):
            try:
                reply = self._reply(prompt, attempt)
            except self._no_reply as error:
                return Failure(str(error))
            found = understood(reply)
            if found is not None:
                return found
        return None

    def map(self, read: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Call *read* for each of *items*, several at a time; return the results in order.

        Raises:
            LossylensError: the first that *read* raises.  What is under way is waited
                for and remembered.
        """
        with ThreadPoolExecutor(max(1, self.options.workers)) as pool:
            futures = [pool.submit(read, item) for item in items]
            try:
                # In the order in which they end: nothing is asked in vain.
                for future in as_completed(futures):
                    future.result()
            except BaseException as error:
                self._client.stop()
                pool.shutdown(cancel_futures=True)
                self._client.resume()
                if isinstance(error, TransientError | RequirementError):
                    kept = "nothing is scored without the judge, whose replies so far are kept"
                    raise type(error)(f"{error}; {kept}") from error
                raise
            return [future.result() for future in futures]

    def _reply(self, prompt: str, attempt: int) -> str:
        """Return a reply, from memory if there is one."""
        key = json.dumps([self.options.url, self.options.model, prompt, attempt])
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(path.read_bytes())["reply"])
        reply = self._client.complete(
            _messages(prompt), temperature=0, max_tokens=self.options.max_tokens
        ).text
        _keep(path, {"prompt": prompt, "reply": reply, "model": self.options.model})
        return reply


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _keep(path: Path, entry: Mapping[str, str]) -> None:
    """Write an entry of the memory; a folder that cannot be written to is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.{id(entry)}.tmp")
        temporary.write_text(json.dumps(entry))
        temporary.replace(path)
