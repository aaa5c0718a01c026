"""Asking a server with the OpenAI chat interface, over a network that fails.

Attempts that may succeed later are repeated, with exponential back-off and jitter
and when the server says so.  What has no success is told apart by whom it concerns:

- what was asked, which the server would not answer later either: :class:`NoReplyError`;
- server or network, which may do better later: :class:`NoReplyYetError`, and
  :class:`ServerUnavailableError` where asking on is of no use now;
- the settings: ``ConfigError``.

A refusal alone does not tell whether it is about what was asked or about key, account
and settings.  Where its words do not tell either, and nothing was answered meanwhile,
a control question is asked, to which nobody could object: if that is refused as well,
it is about the settings.

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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lossylens.errors import ConfigError, DataError, RequirementError, TransientError

from lossylens_toolkit.openai_reply import (
    NoTextError,
    Reply,
    error_code,
    is_moderation,
    parsed,
    read_text,
    read_usage,
    said,
)
from lossylens_toolkit.rate_limits import Gate, back_off, requested_pause
from lossylens_toolkit.timed_http import BrokenError, TimedClient, UnreachableError, is_address

# Statuses after which asking again may help.
_PASSING = {408, 409, 425, 429}
# Statuses that speak of the settings, whatever is asked.
_SETTINGS = {401, 402, 404, 405, 407, 410}
# Codes with which a server says that waiting will not help.
_SPENT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_LONGEST_REPLY = 32 * 2**20
_SHOWN = 300


class NoReplyError(DataError):
    """A request is refused, or its reply is none; sending it again would not help."""


class NoReplyYetError(TransientError):
    """A request got no reply, however often it was sent, for a reason that may pass."""


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


class _RefusedError(Exception):
    """The server refuses a request.

    Attributes:
        sent: when the request was sent, by the monotonic clock.
        own: whether the refusal speaks of what was asked.
    """

    def __init__(self, reason: str, sent: float, *, own: bool) -> None:
        super().__init__(reason)
        self.sent = sent
        self.own = own


class ChatClient:
    """Asks a server; may be used by several threads at once.

    Args:
        server: which, and how.
        control: messages of a question as harmless as can be, of the same form as
            the others; see the top of the module.
    """

    def __init__(self, server: Server, control: Sequence[Mapping[str, Any]]) -> None:
        self.server = server
        self._control = control
        self._url = server.url.rstrip("/") + "/chat/completions"
        self._gate = Gate()
        self._answered = -math.inf
        self._http = TimedClient(
            timeout=server.timeout, connections=server.connections, longest=_LONGEST_REPLY
        )

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
            NoReplyError: the server refuses this request, or the model wrote nothing.
            NoReplyYetError: it got no reply for a reason that may pass.
            ConfigError: the server refuses the settings: key, address, model.
            ServerUnavailableError: see there; what was asked can be asked later.
            InterruptedError: the client was stopped meanwhile.
        """
        try:
            return self._persist(messages, parameters)
        except _RefusedError as refusal:
            raise self._blame(refusal, parameters) from refusal

    def _blame(self, refusal: _RefusedError, parameters: Mapping[str, Any]) -> Exception:
        """Return what to raise after a refusal: is it what was asked, or who asked?"""
        own = NoReplyError(self._at(f"{refusal}"))
        if refusal.own or self._answered >= refusal.sent:
            return own
        try:
            self._persist(self._control, parameters)
        except NoReplyError:
            # It wrote nothing, but was let in.
            return own
        except NoReplyYetError:
            return NoReplyYetError(self._at(f"{refusal}"))
        except _RefusedError:
            return ConfigError(self._at(f"{refusal}; it refuses a control question, too"))
        return own

    def _persist(
        self, messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
    ) -> Reply:
        """Repeat attempts as long as there is hope."""
        server = self.server
        body = {"model": server.model, "messages": list(messages), **parameters}
        data = json.dumps(body, separators=(",", ":")).encode()
        for tries in range(1, server.tries + 1):
            self._gate.wait()
            try:
                return self._attempt(data)
            except _PassingError as error:
                last = error
            if last.pause is not None:
                self._hold(last.pause, last)
            # Also where the server names a time, which may be none at all.
            if tries < server.tries:
                self._gate.sleep(back_off(tries, server.pause, server.longest_pause))
        times = f" ({server.tries} attempts)" if server.tries > 1 else ""
        if last.whole:
            raise ServerUnavailableError(self._at(f"{last}{times}; run again later"))
        raise NoReplyYetError(self._at(f"{last}{times}"))

    def _attempt(self, data: bytes) -> Reply:
        headers = {"Content-Type": "application/json"}
        if key := self.server.key():
            headers["Authorization"] = f"Bearer {key}"
        sent = time.monotonic()
        try:
            response = self._http.post(self._url, data, headers)
        except UnreachableError as error:
            raise _PassingError(f"cannot be reached: {self._clean(error)}", whole=True) from error
        except TimeoutError as error:
            raise _PassingError(f"no reply within {self.server.timeout:g} s") from error
        except BrokenError as error:
            raise _PassingError(f"the connection broke: {self._clean(error)}") from error
        pause = requested_pause(response.headers)
        body = parsed(response.content)
        if response.status != http.HTTPStatus.OK:
            raise self._refusal(response.status, pause, body, sent)
        reply = self._read(body, sent)
        if pause is not None:
            # The reply is good; it says that the next one would not be.
            self._gate.hold(min(pause, self.server.longest_pause))
        return reply

    def _refusal(self, status: int, pause: float | None, body: Any, sent: float) -> Exception:
        """Return what to raise after a response that is no success."""
        reason = f"{status} {_phrase(status)}{self._said(body)}"
        spent = error_code(body) in _SPENT
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
        return _RefusedError(reason, sent, own=is_moderation(body))

    def _read(self, body: Any, sent: float) -> Reply:
        """Return the reply in the body of a success."""
        if body is None:
            raise _PassingError("the reply is cut off or no JSON")
        if not isinstance(body, dict) or not ("choices" in body or "error" in body):
            raise ConfigError(self._at("not a reply of the OpenAI interface; is the url right?"))
        try:
            if not body.get("choices"):
                raise self._failure(body, sent)
            choice = body["choices"][0]
            message, finish = choice["message"], str(choice.get("finish_reason") or "")
            failed = finish == "error" or choice.get("error") or not isinstance(message, dict)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._failure(body, sent) from None
        if failed:
            raise self._failure(choice, sent)
        self._answered = time.monotonic()
        try:
            text = read_text(message, finish)
        except NoTextError as error:
            raise NoReplyError(self._at(self._clean(error))) from error
        return Reply(text, finish, read_usage(body.get("usage")))

    def _failure(self, holder: Mapping[str, Any], sent: float) -> Exception:
        """Return what to raise after a success that tells of an error in *holder*.

        Gateways that have begun to reply can send the status of the error no more.
        """
        code = error_code(holder)
        if re.fullmatch("[45][0-9][0-9]", code):
            return self._refusal(int(code), None, holder, sent)
        reason = f"the reply holds no answer{self._said(holder)}"
        if is_moderation(holder.get("error")):
            return _RefusedError(reason, sent, own=True)
        return _PassingError(reason)

    def _hold(self, pause: float, error: _PassingError) -> None:
        """Keep all requests back for *pause* seconds."""
        if pause > self.server.longest_pause:
            raise ServerUnavailableError(
                self._at(f"{error}; it asks to wait for {pause:.0f} s, run again later")
            )
        self._gate.hold(pause)

    def _at(self, reason: str) -> str:
        return f"{self.server.name} at {self.server.url}: {reason}"

    def _said(self, body: Any) -> str:
        """Return what a server says of an error, as the end of a sentence."""
        message = said(body)
        return f": {self._clean(message)}" if message else ""

    def _clean(self, text: object) -> str:
        """Return text from outside as one short line, without the key."""
        line = " ".join(str(text).split()) or type(text).__name__
        if key := self.server.key():
            line = line.replace(key, "[key]")
        line = "".join(character if character.isprintable() else "?" for character in line)
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address on the web, None if it is none."""
    try:
        return urlsplit(url) if is_address(url) else None
    except ValueError:
        return None


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "(unknown status)"
