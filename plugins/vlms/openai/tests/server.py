"""A server with the OpenAI interface that fails as it is told.

The text of a question says what its requests get, one after the other, such as
``[429 after=0.2 | 500 | hang | ok yes]``; the last one also serves all later ones.
The name of the model can say so for all questions together, also ``[500 x150 | ok]``.
It prints its port, then one line of JSON per request when the request has come and
one when it is answered.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
import threading
import time
import urllib.request
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

LOCK = threading.Lock()
SEEN: Counter[str] = Counter()
PREFIXES: set[str] = set()
UNDER_WAY: set[int] = set()


def log(**entry) -> None:
    with LOCK:
        print(json.dumps({"time": time.monotonic(), **entry}), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = body["messages"][-1]["content"]
        question = "".join(part["text"] for part in content if part["type"] == "text")
        pictures = [part["image_url"] for part in content if part["type"] == "image_url"]
        url = pictures[0]["url"]
        data = picture(url)
        sent = [
            part["text"]
            if part["type"] == "text"
            else f"({digest(picture(part['image_url']['url']))})"
            for part in content
        ]
        with LOCK:
            UNDER_WAY.add(threading.get_ident())
            busy = len(UNDER_WAY)
            orders = re.search(r"\[(.*)\]", body["model"]) or re.search(r"\[(.*)\]", question)
            told = body["model"] if "[" in body["model"] else question
            number = SEEN[told]
            SEEN[told] += 1
        shape = [part["type"] for part in content]
        image = digest(data)
        plain = {key: value for key, value in body.items() if key != "messages"}
        log(
            event="asked",
            question=question,
            image=image,
            url=url[:60],
            chunks=chunk_names(data),
            key=self.headers.get("Authorization"),
            path=self.path,
            shape=shape,
            content=sent,
            roles=[message["role"] for message in body["messages"]],
            busy=busy,
            body=plain,
            detail=pictures[0].get("detail"),
        )
        order, *arguments = step(orders[1] if orders else "ok", number).split()
        try:
            getattr(self, f"do_{order}", self.do_status)(order, arguments, image, question)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with LOCK:
                UNDER_WAY.discard(threading.get_ident())
            log(event="answered", question=question, image=image)

    def send(self, status, body, headers=(), cut=0):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        if cut:
            self.close_connection = True

    def good(self, text, image):
        with LOCK:
            cached = 100 if image in PREFIXES else 0
            PREFIXES.add(image)
        usage = {
            "prompt_tokens": 120,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        return {
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": usage,
        }

    def do_ok(self, order, arguments, image, question):
        time.sleep(0.02)
        options = dict(each.split("=") for each in arguments if "=" in each)
        words = [each for each in arguments if "=" not in each]
        headers = [(name, value) for name, value in options.items() if name.startswith("x-")]
        self.send(200, self.good(" ".join(words) or f"seen {image}", image), headers)

    def do_late(self, order, arguments, image, question):
        time.sleep(float(arguments[0]))
        self.send(200, self.good("late", image))

    def do_status(self, order, arguments, image, question):
        options = dict(each.split("=") for each in arguments)
        headers = []
        if "after" in options:
            headers.append(("Retry-After", options["after"]))
        if "date" in options:
            date = formatdate(time.time() + float(options["date"]), usegmt=True)
            headers.append(("Retry-After", date))
        if "to" in options:
            headers.append(("Location", options["to"]))
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        message = options.get("says", f"no: {key or 'nobody'}\nis welcome").replace("_", " ")
        error = {"message": message, "code": options.get("code")}
        self.send(int(order), {"error": error}, headers)

    def do_hang(self, order, arguments, image, question):
        time.sleep(float(arguments[0]))
        self.close_connection = True

    def do_drip(self, order, arguments, image, question):
        """Something always comes, but never the end."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b" ")
            time.sleep(0.05)
        self.close_connection = True

    def do_headers(self, order, arguments, image, question):
        """Headers come without end, as from a proxy that keeps a connection alive."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100):
            self.wfile.write(b"X-Wait-%d: 1\r\n" % number)
            time.sleep(0.05)
        self.close_connection = True

    def do_cut(self, order, arguments, image, question):
        self.send(200, self.good("half", image), cut=30)

    def do_eof(self, order, arguments, image, question):
        """Cut off without a declared length, so that only the JSON tells."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(json.dumps(self.good("half", image)).encode()[:-20])
        self.close_connection = True

    def do_drop(self, order, arguments, image, question):
        self.close_connection = True

    def do_raw(self, order, arguments, image, question):
        self.send(200, {"html": b"<html>busy</html>", "deep": b"[" * 100_000}[arguments[0]])

    def do_json(self, order, arguments, image, question):
        self.send(200, json.loads(" ".join(arguments)))


def step(orders: str, number: int) -> str:
    """Return what the request of this number gets."""
    for each in orders.split(" | "):
        order, _, times = each.partition(" x")
        number -= int(times) if times.isdigit() else 1
        if number < 0:
            break
    return order if times.isdigit() else each


def picture(url: str) -> bytes:
    if url.startswith("data:image/png;base64,"):
        return base64.b64decode(url.partition(",")[2])
    with urllib.request.urlopen(url) as file:
        return file.read()


def digest(data: bytes) -> str:
    image = Image.open(io.BytesIO(data))
    return hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()[:8]


def chunk_names(data: bytes) -> list[str]:
    names, at = [], 8
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return names


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    sys.stdout.flush()
    server.serve_forever()
