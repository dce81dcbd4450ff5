"""Pulling, against a local server that misbehaves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from facekeep.errors import ModelError
from facekeep.packs import PackStore, Progress
from tests.sdk.packs_setting import (
    SECOND,
    WEIGHTS,
    Answer,
    Server,
    cut_at,
    document,
    ignoring_range,
    redirect,
    reply,
    serving,
    whole,
    without_length,
    write_catalogue,
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, server: Server) -> PackStore:
    catalogue = write_catalogue(tmp_path / "catalogue", document(server.url("/w"), server.url("/s")))
    return PackStore(tmp_path / "store", [catalogue])


def left(store: PackStore) -> list[str]:
    return sorted(str(path.relative_to(store.directory)) for path in store.directory.rglob("*"))


def refused(store: PackStore, code: str, timeout_seconds: float = 10.0) -> str:
    with pytest.raises(ModelError) as caught:
        store.pull("made-up", "one", timeout_seconds=timeout_seconds)
    assert caught.value.code == code, caught.value
    return str(caught.value)


def test_pull(store: PackStore, server: Server) -> None:
    server.answers["/w"] = whole(WEIGHTS)
    seen: list[Progress] = []
    built = store.pull("made-up", progress=seen.append)
    assert built.id == "one"
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}
    assert left(store) == ["made-up", "made-up/one", "made-up/one/weights.onnx"]
    assert seen[-1] == Progress("weights.onnx", len(WEIGHTS), len(WEIGHTS))
    assert [one.received_bytes for one in seen] == sorted(one.received_bytes for one in seen)
    # What the server learns of the device: nothing but that Facekeep asks.
    assert set(server.headers[0]) <= {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert server.headers[0]["User-Agent"] == "facekeep"
    store.pull("made-up")
    assert len(server.asked) == 1


def test_a_build_of_two_files(store: PackStore, server: Server) -> None:
    server.answers |= {"/w": whole(WEIGHTS), "/s": whole(SECOND)}
    store.pull("made-up", "two")
    assert store.read_files("made-up", "two") == {"w.xml": SECOND, "w.bin": WEIGHTS}


def test_resume_after_a_cut(store: PackStore, server: Server) -> None:
    server.answers["/w"] = cut_at(WEIGHTS, 150_000)
    message = refused(store, "model.download_failed")
    assert "Run it again to resume" in message
    assert [name for name in left(store) if name.endswith(".part")]
    server.answers["/w"] = whole(WEIGHTS)
    store.pull("made-up", "one")
    assert server.asked[-1][1] == "bytes=150000-"
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}
    assert left(store) == ["made-up", "made-up/one", "made-up/one/weights.onnx"]


def test_resume_where_the_server_ignores_ranges(store: PackStore, server: Server) -> None:
    server.answers["/w"] = cut_at(WEIGHTS, 1000)
    refused(store, "model.download_failed")
    server.answers["/w"] = ignoring_range(WEIGHTS)
    store.pull("made-up", "one")
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}


def test_a_bad_part_costs_one_more_try(store: PackStore, server: Server) -> None:
    server.answers["/w"] = cut_at(b"?" * len(WEIGHTS), 1000)
    refused(store, "model.download_failed")
    server.answers["/w"] = whole(WEIGHTS)
    store.pull("made-up", "one")
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}


def test_a_whole_part_needs_no_server(store: PackStore, server: Server) -> None:
    server.answers["/w"] = cut_at(WEIGHTS, 1000)
    refused(store, "model.download_failed")
    part = next(store.directory.rglob("*.part"))
    part.write_bytes(WEIGHTS)
    store.pull("made-up", "one")
    assert len(server.asked) == 1


def test_a_part_that_is_too_long_starts_over(store: PackStore, server: Server) -> None:
    server.answers["/w"] = cut_at(WEIGHTS, 1000)
    refused(store, "model.download_failed")
    next(store.directory.rglob("*.part")).write_bytes(WEIGHTS + b"?")
    server.answers["/w"] = whole(WEIGHTS)
    store.pull("made-up", "one")
    assert server.asked[-1][1] is None


def wrong_place(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, 206, WEIGHTS[5:], {"Content-Range": f"bytes 5-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"})


def test_resuming_at_another_place_is_refused(store: PackStore, server: Server) -> None:
    server.answers["/w"] = cut_at(WEIGHTS, 1000)
    refused(store, "model.download_failed")
    server.answers["/w"] = wrong_place
    refused(store, "model.download_failed")
    assert left(store) == []


@pytest.mark.parametrize(
    "answer",
    [
        whole(WEIGHTS[:-1] + b"?"),
        whole(WEIGHTS[:-1]),
        whole(WEIGHTS + b"?"),
        ignoring_range(b""),
        without_length(WEIGHTS + b"?" * 100),
        without_length(WEIGHTS[:-1] + b"?"),
    ],
    ids=["wrong bytes", "too short", "too long", "empty", "too long, unstated", "wrong bytes, unstated"],
)
def test_another_file_leaves_nothing(store: PackStore, server: Server, answer: Answer) -> None:
    server.answers["/w"] = answer
    refused(store, "model.hash_mismatch")
    assert left(store) == []


@pytest.mark.parametrize("status", [404, 403, 500, 204, 206])
def test_other_answers_leave_nothing(store: PackStore, server: Server, status: int) -> None:
    server.answers["/w"] = lambda handler: reply(handler, status, b"", {})
    refused(store, "model.download_failed")
    assert left(store) == []


def test_redirects(store: PackStore, server: Server) -> None:
    server.answers |= {"/w": redirect(server.url("/elsewhere")), "/elsewhere": whole(WEIGHTS)}
    store.pull("made-up", "one")
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://example.org/w", "data:,x", "//example.org/w", "\\x"]
)
def test_redirects_elsewhere_are_refused(store: PackStore, server: Server, to: str) -> None:
    server.answers["/w"] = redirect(to)
    refused(store, "model.download_failed")
    assert left(store) == []


def test_a_circle_of_redirects_ends(store: PackStore, server: Server) -> None:
    server.answers["/w"] = redirect(server.url("/w"))
    refused(store, "model.download_failed")
    assert len(server.asked) < 20
    assert left(store) == []


def test_a_silent_server_times_out(store: PackStore, server: Server) -> None:
    server.answers["/w"] = lambda handler: time.sleep(1.0)
    assert "timed out" in refused(store, "model.download_failed", 0.2)
    assert left(store) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with serving() as gone:
        address = gone.url("/w")
    store = PackStore(tmp_path / "store", [write_catalogue(tmp_path / "c", document(address))])
    refused(store, "model.download_failed")
    assert left(store) == []


def test_a_pack_without_an_address_cannot_be_pulled(tmp_path: Path) -> None:
    store = PackStore(tmp_path / "store", [write_catalogue(tmp_path / "c", document())])
    with pytest.raises(ModelError, match="facekeep models import FILE") as caught:
        store.pull("made-up")
    assert caught.value.code == "model.download_failed"


def test_a_second_download_of_the_same_file_is_refused(store: PackStore, server: Server) -> None:
    def nested(handler: BaseHTTPRequestHandler) -> None:
        message.append(refused(store, "model.download_failed"))
        whole(WEIGHTS)(handler)

    message: list[str] = []
    server.answers["/w"] = nested
    store.pull("made-up", "one")
    assert "Another process" in message[0]
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}


def test_an_interrupted_pull_keeps_its_part(store: PackStore, server: Server) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        raise StopError

    server.answers["/w"] = whole(WEIGHTS)
    with pytest.raises(StopError):
        store.pull("made-up", "one", progress=stop)
    store.pull("made-up", "one")
    assert (server.asked[-1][1] or "").startswith("bytes=")
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}


def test_a_damaged_file_is_pulled_again(store: PackStore, server: Server) -> None:
    server.answers["/w"] = whole(WEIGHTS)
    store.pull("made-up", "one")
    (store.directory / "made-up/one/weights.onnx").write_bytes(b"?" * len(WEIGHTS))
    store.pull("made-up", "one")
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}


def test_a_full_disk_is_named_and_leaves_nothing(store: PackStore, server: Server, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: both refuse a write half-way."""
    server.answers["/w"] = whole(WEIGHTS)
    script = (
        "import resource, sys; from facekeep.errors import ModelError; from facekeep.packs import PackStore;"
        "store = PackStore(sys.argv[1], [sys.argv[2]]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: store.pull('made-up', 'one')\n"
        "except ModelError as error: print(error.code)"
    )
    command = [sys.executable, "-c", script, str(store.directory), str(tmp_path / "catalogue")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["model.disk_full"], done.stderr
    assert left(store) == []
