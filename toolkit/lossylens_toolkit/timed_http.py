"""HTTP requests whose time is bounded as a whole.

The time-outs of HTTP libraries are for one read or write each: a server that sends a
byte now and then, in headers or body, can make a request last for ever.  What runs in
an event loop can be given up at any moment, whether it looks up an address, connects,
negotiates TLS, sends or receives.  So requests run in a loop in a thread of its own,
and the threads that ask wait for them.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from lossylens.errors import RequirementError

try:
    import httpx2
except ImportError as error:
    raise RequirementError(
        "asking a server needs httpx2: pip install 'lossylens-toolkit[remote]'"
    ) from error

_LONGEST_CONNECT = 30.0
# Below one, so that a server that is not there is told apart from a slow one.
_CONNECT_SHARE = 0.8


class UnreachableError(Exception):
    """There is no connection to a server."""


class BrokenError(Exception):
    """A response did not come in full, or is none, or is longer than wanted."""


@dataclass(frozen=True)
class Response:
    """A response; the names of *headers* are matched without case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def is_address(url: str) -> bool:
    """Return whether requests can be sent to *url* as far as its form goes."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and parts.port != 0


class TimedClient:
    """Sends requests; may be used by several threads at once.  Redirects are not followed.

    Args:
        timeout: seconds from the beginning of a request to the end of its response.
        connections: requests under way at a time.
        longest: bytes that a response may have.
    """

    def __init__(self, *, timeout: float, connections: int, longest: int) -> None:
        self._timeout = timeout
        self._connect = min(_CONNECT_SHARE * timeout, _LONGEST_CONNECT)
        self._connections = connections
        self._longest = longest
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient] | None = None

    def post(self, url: str, data: bytes, headers: Mapping[str, str]) -> Response:
        """Send *data*; return the response, whatever its status.

        Raises:
            TimeoutError: it is not complete in time.
            UnreachableError: no connection is made.
            BrokenError: see there.
        """
        loop, http = self._start()
        request = _post(http, url, data, headers, self._timeout, self._longest)
        future = asyncio.run_coroutine_threadsafe(request, loop)
        try:
            return future.result()
        except httpx2.ConnectTimeout as error:
            raise UnreachableError(f"no connection within {self._connect:g} s") from error
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            raise UnreachableError(str(_root(error))) from error
        except TimeoutError:
            raise
        except (httpx2.RequestError, OSError) as error:
            raise BrokenError(str(error) or type(error).__name__) from error
        finally:
            future.cancel()

    def _start(self) -> tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient]:
        """Return loop and client; the first call starts them."""
        with self._lock:
            if self._running is None:
                loop = asyncio.new_event_loop()
                http = httpx2.AsyncClient(
                    timeout=httpx2.Timeout(None, connect=self._connect),
                    limits=httpx2.Limits(
                        max_connections=self._connections,
                        max_keepalive_connections=self._connections,
                    ),
                    headers={"User-Agent": "lossylens", "Accept-Encoding": "identity"},
                )
                self._running = loop, http
                # It must not know this object, which ends it by being forgotten: neither
                # VLMs nor tasks have an end at which they could close it.
                threading.Thread(
                    target=_serve, args=self._running, name="timed-http", daemon=True
                ).start()
                weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
            return self._running


def _serve(loop: asyncio.AbstractEventLoop, http: httpx2.AsyncClient) -> None:
    """Run *loop* until it is stopped, then close everything."""
    try:
        loop.run_forever()
        loop.run_until_complete(http.aclose())
    finally:
        loop.close()


async def _post(
    http: httpx2.AsyncClient,
    url: str,
    data: bytes,
    headers: Mapping[str, str],
    timeout: float,
    longest: int,
) -> Response:
    content = bytearray()
    async with (
        asyncio.timeout(timeout),
        http.stream("POST", url, content=data, headers=headers) as response,
    ):
        async for block in response.aiter_bytes():
            content += block
            if len(content) > longest:
                raise BrokenError("the response is too long")
    return Response(response.status_code, response.headers, bytes(content))


def _root(error: BaseException) -> BaseException:
    """Return the error of the operating system behind *error*, which says more."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    told = [each for each in causes if isinstance(each, OSError) and each.strerror]
    return told[-1] if told else error
