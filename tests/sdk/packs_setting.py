"""A made-up pack, and a local HTTP server that can misbehave in every way a download may meet."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WEIGHTS = bytes(range(256)) * 800
SECOND = b"second file" * 100


def document(url: str | None = None, second_url: str | None = None, **changes: Any) -> dict[str, Any]:
    """A manifest with a one-file and a two-file build."""
    value = {
        "manifest_version": 1,
        "id": "made-up",
        "task": "embedding",
        "family": "cosine",
        "title": "Made up for tests",
        "licence": {"weights": "Apache-2.0", "source": "https://example.org/licence", "note": ""},
        "training_data": {"description": "Nothing.", "consented": False},
        "permitted_uses": ["research", "evaluation"],
        "source": {"repository": "https://example.org", "path": "a", "commit": "0"},
        "input": {
            "layout": "NCHW",
            "colour": "RGB",
            "size_px": [112, 112],
            "multiple_of": 1,
            "mean": [0, 0.5, 0],
            "std": [1, 1, 255.0],
            "crop": "arcface-112",
            "crop_scale": 1.0,
        },
        "output": {"dimension": 4, "landmarks": False, "classes": []},
        "options": {"overlap": 0.3, "name": "x", "flag": True},
        "builds": [
            build("one", "onnx", [file_entry("weights.onnx", WEIGHTS, url)], [point(1e-2, 0.2), point(1e-3, 0.3)]),
            build("two", "openvino", [file_entry("w.xml", SECOND, second_url), file_entry("w.bin", WEIGHTS, url)], []),
        ],
    }
    return value | changes


def build(name: str, runtime: str, files: list[dict[str, Any]], points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": name,
        "runtime": runtime,
        "precision": "fp32",
        "files": files,
        "operating_points": points,
        "input": None,
        "note": "",
        "unusable_because": None,
    }


def file_entry(name: str, data: bytes, url: str | None = None) -> dict[str, Any]:
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "url": url}


def point(fmr: float, threshold: float) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "fmr": fmr,
        "fmr_interval": [fmr / 2, fmr * 2],
        "fnmr": 0.1,
        "fnmr_interval": [0.05, 0.2],
        "dataset": "made up",
        "mated": 10,
        "non_mated": 1000,
    }


def write_catalogue(root: Path, *documents: dict[str, Any]) -> Path:
    """A catalogue directory with these manifests."""
    (root / "manifests").mkdir(parents=True, exist_ok=True)
    for value in documents:
        (root / "manifests" / f"{value['id']}.json").write_bytes(json.dumps(value).encode())
    return root


Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers each path as it was told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""

    def url(self, path: str) -> str:
        return f"{self.address}{path}"


@contextmanager
def serving() -> Iterator[Server]:
    """A server on the loopback interface, on a port of its own."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.asked.append((self.path, self.headers.get("Range")))
            server.headers.append(dict(self.headers))
            self.close_connection = True
            server.answers[self.path](self)

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.address = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def whole(data: bytes) -> Answer:
    """A server that honours Range."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        if start >= len(data):
            reply(handler, 416, b"", {})
            return
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if match else {}
        reply(handler, 206 if match else 200, data[start:], headers)

    return answer


def ignoring_range(data: bytes) -> Answer:
    return lambda handler: reply(handler, 200, data, {})


def cut_at(data: bytes, size: int) -> Answer:
    """A server that states the whole length and goes away after `size` bytes of the file."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:size])

    return answer


def without_length(data: bytes) -> Answer:
    """A server that states no length and ends the body by closing."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(to: str) -> Answer:
    return lambda handler: reply(handler, 302, b"", {"Location": to})


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
