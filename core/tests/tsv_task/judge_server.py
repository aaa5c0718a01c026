"""A server with the OpenAI interface that replies what the answer it is shown asks for.

It prints its port, then one line of JSON per request.
"""

from __future__ import annotations

import json
import threading
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
        _, _, order = prompt.rpartition("<")
        what, _, text = order.partition(">")[0].partition(": ")
        if what == "status":
            self.send_error(int(text))
            return
        if what == "hang up":
            self.close_connection = True
            return
        content = (
            {"choices": [{"message": {"content": text.replace("~", "")}}]}
            if what == "reply"
            else {}
        )
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
