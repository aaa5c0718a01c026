"""A language model that reads answers which fixed rules cannot read.

Any server with the OpenAI interface will do.  Replies are kept in the cache by
server, model, prompt and attempt, so that scoring again asks nothing again.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from lossylens.errors import ConfigError
from lossylens.toolkit.cache import cache_folder
from lossylens.toolkit.tsv_task.options import JudgeOptions

_T = TypeVar("_T")

# Answers after which asking again may help; any other 4xx is a wrong setting.
_PASSING = {408, 409, 429}


class Judge:
    """Asks a language model, and remembers what it replied.

    Args:
        options: which model, where.

    Raises:
        ConfigError: the options do not name a server and a model.
    """

    def __init__(self, options: JudgeOptions) -> None:
        if not options.url.startswith(("http://", "https://")) or not options.model:
            raise ConfigError("judge: url (http://...) and model must both be given")
        self.options = options
        self._folder = cache_folder() / "judge"

    def provenance(self) -> Mapping[str, str]:
        """Return what the manifest should say about the judge."""
        return {"judge": self.options.model, "judge_url": self.options.url}

    def read(self, prompt: str, understood: Callable[[str], _T | None], tries: int) -> _T | None:
        """Ask until *understood* makes something of a reply.

        Args:
            prompt: what to ask.
            understood: returns what a reply says, None if that is unclear.
            tries: how often to ask at most.

        Returns:
            What the reply says, None if no reply came or none was clear.

        Raises:
            ConfigError: the server refuses the request.
        """
        for attempt in range(tries):
            reply = self._reply(prompt, attempt)
            found = None if reply is None else understood(reply)
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
        try:
            # The constructor made sure that this is an address on the web.
            with urllib.request.urlopen(  # noqa: S310
                self._request(prompt), timeout=self.options.timeout
            ) as answer:
                content = json.loads(answer.read())["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            error.close()
            if 400 <= error.code < 500 and error.code not in _PASSING:
                raise ConfigError(f"judge at {error.url}: {error.code} {error.reason}") from error
            return None
        except (OSError, http.client.HTTPException):
            return None
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ConfigError(
                f"judge at {self.options.url}: not a reply of the OpenAI interface"
            ) from error
        return content if isinstance(content, str) else None

    def _request(self, prompt: str) -> urllib.request.Request:
        body = {
            "model": self.options.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self.options.max_tokens,
        }
        headers = {"Content-Type": "application/json", "User-Agent": "lossylens"}
        if key := os.environ.get(self.options.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        url = self.options.url.rstrip("/") + "/chat/completions"
        return urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310


def _keep(path: Path, entry: Mapping[str, str]) -> None:
    """Write an entry of the memory; a folder that cannot be written to is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.{id(entry)}.tmp")
        temporary.write_text(json.dumps(entry))
        temporary.replace(path)
