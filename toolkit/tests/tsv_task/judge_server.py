"""A server with the OpenAI interface that replies what the answer it is shown asks for.

It prints its port, then one line of JSON per request.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Requests come several at a time, and their lines must not mix.
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        key = self.headers.get("Authorization")
        entry = json.dumps({"path": self.path, "key": key, "prompt": prompt, **body})
        with LOCK:
            print(entry, flush=True)
        # An answer such as "<reply: ~yes~>" or "<status: 500>"; with the tildes, the
        # rules cannot read it.
        # So may the name of the model, about all answers.
        order = body["model"]
        if ": " not in order:
            order = prompt.rpartition("<")[2].partition(">")[0]
        what, _, text = order.partition(": ")
        if what == "status":
            self.send_error(int(text))
            return
        if what == "hang up":
            self.close_connection = True
            return
        if what == "headers":
            self.drip()
            return
        # Without any order, as a judge would reply to a question of another kind.
        content = {"reply": text.replace("~", ""), "": "yes"}.get(what)
        if what == "content":
            content = json.loads(text)
        choice = {"message": {"content": content}, "finish_reason": "length"}
        content = {} if what == "odd" else {"choices": [choice]}
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def drip(self):
        """Send headers without end."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(OSError):
            for number in range(100):
                self.wfile.write(b"X-Wait-%d: 1\r\n" % number)
                time.sleep(0.05)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
