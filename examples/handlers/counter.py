"""A counter behind HTTP, in Python's standard library: `python counter.py [PORT]`.

Operations: `add` (and `process`, which a request without headers means) adds the number in the value, 1 if it is
empty; `get` answers the count. The answer is the count as text.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DESCRIPTION = {"name": "counter", "version": "python", "read_only": ["get"]}


def run(item: dict[str, Any]) -> dict[str, Any]:
    """One result for one item: pure, so the same item gives the same result."""
    value = base64.b64decode(item["value"]).decode("ascii", "replace")
    count = item["state"]["count"] if item["state"] else 0
    if item["operation"] == "get":
        return {"state": item["state"], "answer": base64.b64encode(str(count).encode()).decode()}
    if item["operation"] not in {"add", "process"}:
        return {"error": "unknown-operation"}
    if value and not value.removeprefix("-").isdecimal():
        return {"error": "bad-value"}
    count += int(value or "1")
    return {"state": {"count": count}, "answer": base64.b64encode(str(count).encode()).decode()}


class Counter(BaseHTTPRequestHandler):
    """GET describes, POST runs a batch."""

    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """What it is."""
        self._answer(200, DESCRIPTION)

    def do_POST(self) -> None:
        """A batch."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            results = [run(item) for item in json.loads(body)["items"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._answer(400, {"error": repr(error)})
        else:
            self._answer(200, {"results": results})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Quiet."""

    def _answer(self, status: int, tree: object) -> None:
        body = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), Counter)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
