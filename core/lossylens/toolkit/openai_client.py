"""Asking a server with the OpenAI chat interface, over a network that fails.

Attempts that may succeed later are repeated, with exponential back-off and jitter
and when the server says so; what cannot succeed is told apart by whom it concerns:
one request (:class:`NoReplyError`), the settings (``ConfigError``), or the server
as a whole (:class:`ServerUnavailableError`), in which case asking on would only
turn an outage into wrong answers.

The key is read from an environment variable when a request is sent.  It is in no
attribute, option or message, and redirects, which could carry it to another
host, are not followed.
"""

from __future__ import annotations

import http
import json
import math
import os
import re
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from lossylens.errors import ConfigError, DataError, RequirementError
from lossylens.toolkit.rate_limits import Gate, back_off, requested_pause

try:
    import httpx2
except ImportError as error:
    raise RequirementError(
        "asking a server needs httpx2: pip install 'lossylens[remote]'"
    ) from error

# Statuses after which asking again may help.
_PASSING = {408, 409, 425, 429}
# Statuses that speak of the settings, whatever is asked.
_SETTINGS = {401, 402, 403, 404, 405, 407, 410}
# Codes with which a server says that waiting will not help.
_SPENT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_LONGEST_REPLY = 32 * 2**20
_SHOWN = 300


class NoReplyError(DataError):
    """A request got no usable reply, however often it was sent."""


class ServerUnavailableError(RequirementError):
    """A server cannot be reached, lets nobody in for now, or fails on everything."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server and how much patience it gets.

    Attributes:
        name: what messages call it.
        url: of the interface, such as ``http://localhost:8000/v1``.
        model: name of the model there.
        key_variable: name of the environment variable that holds the key; empty
            or unset for a server that asks for none.
        timeout: seconds that one attempt may take.
        tries: attempts for each request.
        pause: seconds before the second attempt; doubled before each further one.
        longest_pause: seconds; a server that wants to be left alone for longer
            counts as unavailable.
        connections: requests under way at a time.
        failures: requests in a row that may fail before the server counts as
            unavailable; 0 for any number.

    Raises:
        ConfigError: the address, the name of the model or of the variable is unfit.
    """

    name: str
    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    tries: int = 8
    pause: float = 1.0
    longest_pause: float = 120.0
    connections: int = 8
    failures: int = 32

    def __post_init__(self) -> None:
        """Check the settings; what might be a key is not repeated in messages."""
        parts = _split(self.url)
        if parts is None or not self.model:
            raise ConfigError(f"{self.name}: url (http://...) and model must both be given")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigError(
                f"{self.name}: url must hold neither password nor query; "
                "put the key into an environment variable and name that in key_variable"
            )
        if self.key_variable and not re.fullmatch(r"[A-Za-z_]\w{0,99}", self.key_variable, re.A):
            raise ConfigError(
                f"{self.name}: key_variable is the name of an environment variable, not the key"
            )
        for option, least in (("timeout", 0), ("tries", 1), ("pause", 0), ("connections", 1)):
            value = getattr(self, option)
            if not (math.isfinite(value) and value >= least) or (option == "timeout" and not value):
                raise ConfigError(f"{self.name}: {option} cannot be {value}")

    def key(self) -> str:
        """Return the key, ``""`` if there is none.

        Raises:
            ConfigError: it cannot be sent in a header.
        """
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if not re.fullmatch(r"[!-~]*", key):
            raise ConfigError(f"{self.name}: {self.key_variable} holds no key but other text")
        return key


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
        text: the answer, without the reasoning that some servers send beside it.
        finish: why it ended: ``stop``, ``length`` ...; ``""`` if the server did not say.
        usage: ``input_tokens``, ``cached_tokens`` (those of the input that the
            server had in its prefix cache), ``output_tokens`` and ``cost``, as far
            as the server tells.
    """

    text: str
    finish: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)


class _PassingError(Exception):
    """An attempt failed in a way that may pass.

    Attributes:
        whole: whether it concerns the server rather than what was asked.
        pause: seconds to wait, if the server said.
    """

    def __init__(self, reason: str, *, whole: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.whole = whole
        self.pause = pause


class ChatClient:
    """Asks a server; may be used by several threads at once.

    Args:
        server: which, and how.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._url = server.url.rstrip("/") + "/chat/completions"
        self._gate = Gate()
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        connections = server.connections
        self._http = httpx2.Client(
            timeout=httpx2.Timeout(server.timeout, connect=min(server.timeout, 30.0), pool=None),
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections
            ),
            headers={"User-Agent": "lossylens", "Accept-Encoding": "identity"},
        )
        # Neither VLMs nor tasks have an end at which they could close it.
        weakref.finalize(self, self._http.close)

    def stop(self) -> None:
        """Send home the threads that wait; nothing is asked until :meth:`resume`."""
        self._gate.close()

    def resume(self) -> None:
        """Undo :meth:`stop`."""
        self._gate.reopen()

    def complete(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> Reply:
        """Return the model's reply to *messages*.

        Args:
            messages: of the chat, as the interface has them.
            parameters: further fields of the request, such as ``temperature``.

        Raises:
            NoReplyError: the server refuses this request, or sent nothing usable.
            ConfigError: the server refuses the settings: key, address, model.
            ServerUnavailableError: see there; what was asked can be asked later.
            InterruptedError: the client was stopped meanwhile.
        """
        body = {"model": self.server.model, "messages": list(messages), **parameters}
        data = json.dumps(body, separators=(",", ":")).encode()
        try:
            reply = self._persist(data)
        except NoReplyError as error:
            self._count_failure(error)
            raise
        with self._lock:
            self._failed_in_a_row = 0
        return reply

    def _persist(self, data: bytes) -> Reply:
        """Repeat attempts as long as there is hope."""
        server = self.server
        for tries in range(1, server.tries + 1):
            self._gate.wait()
            try:
                return self._attempt(data)
            except _PassingError as error:
                last = error
            if last.pause is not None:
                self._hold(last.pause, last)
            elif tries < server.tries:
                self._gate.sleep(back_off(tries, server.pause, server.longest_pause))
        times = f" ({server.tries} attempts)" if server.tries > 1 else ""
        if last.whole:
            raise ServerUnavailableError(self._at(f"{last}{times}; run again later"))
        raise NoReplyError(self._at(f"{last}{times}"))

    def _attempt(self, data: bytes) -> Reply:
        try:
            status, headers, content = self._post(data)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise _PassingError(f"cannot be reached: {self._clean(error)}", whole=True) from error
        except httpx2.TimeoutException as error:
            raise _PassingError(f"no reply within {self.server.timeout:g} s") from error
        except (httpx2.RequestError, OSError) as error:
            raise _PassingError(f"the connection broke: {self._clean(error)}") from error
        pause = requested_pause(headers)
        if status != http.HTTPStatus.OK:
            raise self._refusal(status, pause, _parsed(content))
        reply = self._read(content)
        if pause is not None:
            # The reply is good; it says that the next one would not be.
            self._gate.hold(min(pause, self.server.longest_pause))
        return reply

    def _post(self, data: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request; return status, headers and body of the response."""
        headers = {"Content-Type": "application/json"}
        if key := self.server.key():
            headers["Authorization"] = f"Bearer {key}"
        deadline = time.monotonic() + self.server.timeout
        content = bytearray()
        with self._http.stream("POST", self._url, content=data, headers=headers) as response:
            for block in response.iter_bytes():
                content += block
                # The library's time-out is for each block: drops could come forever.
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the reply takes too long")
                if len(content) > _LONGEST_REPLY:
                    raise NoReplyError(self._at("the reply is too long"))
            return response.status_code, response.headers, bytes(content)

    def _refusal(self, status: int, pause: float | None, body: Any) -> Exception:
        """Return what to raise after a response that is no success."""
        reason = f"{status} {_phrase(status)}{self._said(body)}"
        spent = _error_code(body) in _SPENT
        if status in _SETTINGS or spent or status < 400:
            if status == http.HTTPStatus.UNAUTHORIZED and not self.server.key():
                named = self.server.key_variable or "key_variable"
                reason += f"; no key was sent, set {named}"
            return ConfigError(self._at(reason))
        if status in _PASSING or status >= 500:
            limited = status == http.HTTPStatus.TOO_MANY_REQUESTS
            # Remaining quotas are sent with errors of any kind; only some ask to wait.
            asked = limited or status == http.HTTPStatus.SERVICE_UNAVAILABLE
            return _PassingError(reason, whole=limited, pause=pause if asked else None)
        return NoReplyError(self._at(reason))

    def _read(self, content: bytes) -> Reply:
        """Return the reply in the body of a success."""
        body = _parsed(content)
        if body is None:
            raise _PassingError("the reply is cut off or no JSON")
        if not isinstance(body, dict) or not ("choices" in body or "error" in body):
            raise ConfigError(self._at("not a reply of the OpenAI interface; is the url right?"))
        try:
            choice = body["choices"][0]
            message = choice["message"]
            text, finish = message["content"], str(choice.get("finish_reason") or "")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise _PassingError(f"the reply holds no answer{self._said(body)}") from error
        if not isinstance(text, str):
            refusal = message.get("refusal")
            why = f"refused: {refusal}" if refusal else f"it ended with {finish or 'no reason'}"
            raise NoReplyError(self._at(f"the model wrote nothing ({self._clean(why)})"))
        return Reply(text, finish, _usage(body.get("usage")))

    def _hold(self, pause: float, error: _PassingError) -> None:
        """Keep all requests back for *pause* seconds."""
        if pause > self.server.longest_pause:
            raise ServerUnavailableError(
                self._at(f"{error}; it asks to wait for {pause:.0f} s, run again later")
            )
        self._gate.hold(pause)

    def _count_failure(self, error: NoReplyError) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            failed = self._failed_in_a_row
        if 0 < self.server.failures <= failed:
            raise ServerUnavailableError(
                f"{error}; {failed} requests in a row failed, so something is wrong with the "
                "server or the options"
            ) from error

    def _at(self, reason: str) -> str:
        return f"{self.server.name} at {self.server.url}: {reason}"

    def _said(self, body: Any) -> str:
        """Return what a server says of an error, as the end of a sentence."""
        error = body.get("error", body) if isinstance(body, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        return f": {self._clean(message)}" if isinstance(message, str) and message else ""

    def _clean(self, text: object) -> str:
        """Return text from outside as one short line, without the key."""
        line = " ".join(str(text).split()) or type(text).__name__
        if key := self.server.key():
            line = line.replace(key, "[key]")
        line = "".join(character if character.isprintable() else "?" for character in line)
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _split(url: str) -> Any:
    """Return the parts of an address on the web, None if it is none."""
    try:
        parts = urlsplit(url)
        httpx2.URL(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        return parts if valid else None
    except (ValueError, httpx2.InvalidURL):
        return None


def _parsed(content: bytes) -> Any:
    """Return the JSON value in *content*, None if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "(unknown status)"


def _error_code(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("code") or error.get("type")) if isinstance(error, dict) else ""


def _usage(usage: Any) -> dict[str, float]:
    if not isinstance(usage, dict):
        return {}
    details = usage.get("prompt_tokens_details")
    values = {
        "input_tokens": usage.get("prompt_tokens"),
        "cached_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
        "output_tokens": usage.get("completion_tokens"),
        "cost": usage.get("cost"),
    }
    return {name: value for name, value in values.items() if _is_amount(value)}


def _is_amount(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < 1e15
