"""The selftest: what it searches for, what its watchers see, and that it catches a device that leaks."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import facekeep.errors
from facekeep.errors import AcquisitionError, SelftestError
from facekeep.packs import PackStore
from facekeep.residue.forms import picture_forms, tensor_forms, vector_forms
from facekeep.residue.needles import Needles
from facekeep.residue.search import Searcher
from facekeep.selftest import Check, CheckState, SelftestReport, Watched, run_selftest
from facekeep.selftest.hooks import AuditWatch, RefusedError
from facekeep.selftest.pictures import pictures_from, reduced
from facekeep.selftest.process import find_watchers
from facekeep.selftest.run import ALL_WATCHERS
from facekeep.selftest.scenario import STEPS
from facekeep.selftest.strace import TraceReader

AVAILABLE = find_watchers(ALL_WATCHERS)
needs_strace = pytest.mark.skipif(not AVAILABLE.strace, reason=AVAILABLE.missing.get("strace", ""))
HOOK, STRACE = frozenset({"audit hook"}), frozenset({"strace"})

# What is searched for, and what is searched


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(7).integers(60, 200, (112, 112, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def vector() -> np.ndarray:
    values = np.random.default_rng(8).normal(size=128).astype(np.float32)
    return (values / np.linalg.norm(values)).astype(np.float32)


@pytest.fixture(scope="module")
def searcher(picture: np.ndarray, vector: np.ndarray) -> Searcher:
    forms = [*picture_forms("picture p", picture), *tensor_forms("crop of p", picture), *vector_forms("embedding of p", vector)]
    return Searcher(forms, {"embedding of p": vector})


def npz(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, secret=picture)
    return stream.getvalue()


LEAKS = {
    "31 bytes of a picture anywhere": lambda p, v: p.tobytes()[5001:5032],
    "the other channel order": lambda p, v: p[:, :, ::-1].tobytes()[900:1000],
    "planes": lambda p, v: p.transpose(2, 0, 1).tobytes()[777:900],
    "mirrored": lambda p, v: p[:, ::-1].tobytes()[300:400],
    "a thumbnail": lambda p, v: p.reshape(56, 2, 56, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8).tobytes()[50:150],
    "a tensor": lambda p, v: ((p.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1).tobytes()[4000:4100],
    "hexadecimal": lambda p, v: p.tobytes()[333:380].hex().encode(),
    "hexadecimal in capitals with colons": lambda p, v: ":".join(f"{x:02X}" for x in p.tobytes()[333:380]).encode(),
    "a list of hexadecimal numbers": lambda p, v: ", ".join(f"0x{x:02x}" for x in p.tobytes()[333:380]).encode(),
    "Base64": lambda p, v: base64.b64encode(p.tobytes()[7:80]),
    "Base64, one off": lambda p, v: base64.b64encode(b"x" + p.tobytes()[7:80]),
    "Base64, two off": lambda p, v: base64.b64encode(b"xy" + p.tobytes()[7:80]),
    "Base64 for addresses": lambda p, v: base64.urlsafe_b64encode(p.tobytes()[7:80]),
    "Base64 in lines": lambda p, v: base64.encodebytes(p.tobytes()[7:400]),
    "Base32": lambda p, v: base64.b32encode(p.tobytes()[7:80]),
    "a Python literal": lambda p, v: repr(p.tobytes()[1000:1100]).encode(),
    "a JSON string": lambda p, v: json.dumps(p.tobytes()[:100].decode("latin-1")).encode(),
    "UTF-8": lambda p, v: p.tobytes()[:200].decode("latin-1").encode(),
    "a JSON list": lambda p, v: json.dumps(p[3, :20].tolist()).encode(),
    "zlib": lambda p, v: zlib.compress(p.tobytes()[:3000]),
    "gzip": lambda p, v: gzip.compress(p.tobytes()[:3000]),
    "bzip2": lambda p, v: bz2.compress(p.tobytes()[:3000]),
    "xz": lambda p, v: lzma.compress(p.tobytes()[:3000]),
    "a torn zlib stream": lambda p, v: zlib.compress(p.tobytes()[:9000])[:4000],
    "Base64 of zlib": lambda p, v: base64.b64encode(zlib.compress(p.tobytes()[5000:6000])),
    "npz": lambda p, v: npz(p),
    "four numbers of a vector": lambda p, v: v.tobytes()[200:216],
    "float16": lambda p, v: v.astype("<f2").tobytes()[100:140],
    "float64, the other way round": lambda p, v: v.astype(">f8").tobytes()[80:96],
    "bfloat16": lambda p, v: (v.view("<u4") >> 16).astype("<u2").tobytes()[60:80],
    "int8": lambda p, v: np.rint(v * 127 / np.abs(v).max()).astype(np.int8).tobytes()[50:70],
    "int8 as text": lambda p, v: json.dumps(np.rint(v * 127 / np.abs(v).max()).astype(int).tolist()).encode(),
    "a printed array": lambda p, v: str(v).encode(),
    "numbers of three places": lambda p, v: " ".join(f"{x:.3f}" for x in v[30:45]).encode(),
    "a JSON list of a vector": lambda p, v: json.dumps(v.tolist()[40:60]).encode(),
    "the beginning of a JPEG": lambda p, v: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01",
    "the beginning of a PNG": lambda p, v: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_found_however_it_is_written(name: str, searcher: Searcher, picture: np.ndarray, vector: np.ndarray) -> None:
    leak = LEAKS[name](picture, vector)
    before, after = secrets.token_bytes(4099), secrets.token_bytes(513)
    assert searcher.search(leak), name
    # White space around it: an encoding ends somewhere, and the search must not need to know where.
    assert searcher.search(before + b"\n\n" + leak + b"\n\n" + after), name


def test_what_is_no_leak_is_not_found(searcher: Searcher, vector: np.ndarray) -> None:
    assert searcher.search(secrets.token_bytes(1 << 20)) is None
    assert searcher.search(bytes(1 << 16)) is None
    assert searcher.search(bytes(range(256)) * 64) is None
    assert searcher.search(Path(facekeep.errors.__file__).read_bytes()) is None
    # The same vector sealed: what the device is allowed to write.
    sealed = secrets.token_bytes(len(vector.tobytes()))
    assert searcher.search(bytes(a ^ b for a, b in zip(sealed, vector.tobytes(), strict=True))) is None


def test_the_search_answers_for_itself(searcher: Searcher) -> None:
    assert searcher.fault() is None


def test_the_search_knows_when_it_is_blind(picture: np.ndarray, vector: np.ndarray) -> None:
    blind = Searcher([*picture_forms("picture p", picture), *vector_forms("embedding of p", vector)], {})
    blind._needles = Needles([])
    assert "was not found" in (blind.fault() or "")


def test_the_fast_search_finds_what_a_slow_one_finds(picture: np.ndarray) -> None:
    forms = list(picture_forms("picture p", picture))[:1]
    random = np.random.default_rng(3)
    for length in (15, 16, 31, 32, 200):
        for _ in range(20):
            start = int(random.integers(0, len(forms[0].data) - length))
            hay = random.bytes(int(random.integers(0, 64))) + forms[0].data[start : start + length] + random.bytes(40)
            windows = {forms[0].data[at : at + 16] for at in range(0, len(forms[0].data) - 15, 16)}
            slow = any(hay[at : at + 16] in windows for at in range(len(hay) - 15))
            assert bool(Needles(forms).search(hay)) == slow
            if length >= 31:
                assert slow


# The watchers


def hexed(text: str | bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in (text.encode() if isinstance(text, str) else text))


def trace_of(*lines: str) -> TraceReader:
    reader = TraceReader("mark")
    for line in lines:
        reader.feed(line.encode("ascii"))
    reader.close()
    return reader


def test_strace_writes_are_joined_by_target() -> None:
    file = hexed("/sandbox/vault.db-wal")
    reader = trace_of(
        f'8353  write(1<{hexed("pipe:[1]")}>, "{hexed("hello")}", 5) = 5',
        f'8353  pwrite64(3<{file}>, "{hexed("ab")}", 2, 4096) = 2',
        f'8354  writev(3<{file}>, [{{iov_base="{hexed("cd")}", iov_len=2}}, {{iov_base="{hexed("ef")}", iov_len=2}}], 2) = 4',
        f'8353  write(3<{file}>(deleted), "{hexed("gone")}", 4 <unfinished ...>',
        f'8354  write(1<{hexed("pipe:[1]")}>, "{hexed("!")}", 1) = 1',
        "8353  <... write resumed>) = 4",
    )
    assert {name: bytes(data) for name, data in reader.run.streams.items()} == {
        "pipe:[1]": b"hello!",
        "/sandbox/vault.db-wal": b"abcdef",
        "/sandbox/vault.db-wal (deleted)": b"gone",
    }
    assert reader.run.writes == 5


def test_strace_sees_network_processes_files_and_other_ways_out() -> None:
    at, outside = hexed("/elsewhere"), hexed("/tmp/elsewhere")
    reader = trace_of(
        f'1 execve("{hexed("/usr/bin/python")}", ["{hexed("python")}"], 0x7ff /* 9 vars */) = 0',
        "1 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 5<\\x73>",
        "1 socket(AF_UNIX, SOCK_STREAM, 0) = 5<\\x73>",
        f'1 connect(5<\\x73>, {{sa_family=AF_UNIX, sun_path="{hexed("/var/run/nscd/socket")}"}}, 110) = -1 ENOENT (No such file)',
        f'1 connect(5<\\x73>, {{sa_family=AF_UNIX, sun_path="{hexed("/run/log")}"}}, 110) = 0',
        f'1 openat(AT_FDCWD<{at}>, "{hexed("x")}", O_RDONLY|O_CLOEXEC) = 3<{at}>',
        f'1 openat(AT_FDCWD<{at}>, "{hexed("/tmp/elsewhere")}", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3<{outside}>',
        f'1 openat(AT_FDCWD<{at}>, "{hexed("refused")}", O_WRONLY|O_CREAT, 0666) = -1 EACCES (Permission denied)',
        f'1 openat(AT_FDCWD<{at}>, "{hexed("unfinished")}", O_RDWR <unfinished ...>',
        "1 clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_SETTLS, exit_signal=0}, 88) = 9",
        "1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 10",
        f'10 execve("{hexed("/usr/bin/curl")}", ["{hexed("curl")}"], 0x7ff /* 9 vars */) = 0',
        f"1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{outside}>, 0) = 0x7f0",
        f"1 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3<{hexed('/etc/cache')}>, 0) = 0x7f0",
        "1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0",
        "1 io_uring_setup(8, {flags=0}) = 4",
        f'1 write(3<{outside}>, "{hexed("cut")}"..., 2097152) = 2097152',
        f"1 sendfile(1<{outside}>, 3<{outside}>, NULL, 4) = 4",
        f'1 mkdir("{hexed("a name")}", 0777) = 0',
    )
    run = reader.run
    assert run.network == ["socket (INET)", "connect (UNIX)"]
    assert run.processes == ["clone", "execve /usr/bin/curl"]
    assert run.opened == {"/tmp/elsewhere", "/elsewhere/unfinished"}
    assert run.mapped == {"/tmp/elsewhere"}
    assert [each.split()[0].rstrip(",") for each in run.opaque] == ["io_uring_setup", "write", "sendfile"]
    assert b"a name" in run.streams["(names)"]


def test_deliberate_violations_are_kept_apart_from_the_run() -> None:
    pipe = hexed("pipe:[1]")
    reader = trace_of(
        f'1 write(1<{pipe}>, "{hexed("before")}", 6) = 6',
        f'1 write(1<{pipe}>, "{hexed("begin-mark")}", 10) = 10',
        "1 socket(AF_INET, SOCK_DGRAM, 0) = 5<\\x73>",
        f'1 write(1<{pipe}>, "{hexed("end-mark")}", 8) = 8',
        "1 socket(AF_INET6, SOCK_DGRAM, 0) = 5<\\x73>",
    )
    assert reader.control.network == ["socket (INET)"]
    assert reader.run.network == ["socket (INET6)"]


@pytest.mark.parametrize(
    ("event", "arguments", "reason"),
    [
        ("socket.__new__", (None, 2, 1, 0), "network"),
        ("socket.getaddrinfo", ("example.org", 443, 0, 0, 0), "network"),
        ("urllib.Request", ("http://example.org", None, {}, "GET"), "network"),
        ("syslog.syslog", (1, "x"), "network"),
        ("subprocess.Popen", ("curl", ["curl"], None, None), "process"),
        ("os.system", (b"curl",), "process"),
        ("os.fork", (), "process"),
        ("os.posix_spawn", ("curl", [], {}), "process"),
        ("open", ("/tmp/x", "w", os.O_WRONLY | os.O_CREAT), "write outside"),
        ("open", (b"/tmp/x", None, os.O_RDWR), "write outside"),
        ("os.rename", ("HOME/a", "/tmp/a", -1, -1), "write outside"),
        ("os.mkdir", ("/tmp/a", 0o777, -1), "write outside"),
        ("os.symlink", ("HOME/a", "/tmp/a", -1), "write outside"),
        ("sqlite3.connect", ("/tmp/x.db",), "write outside"),
        ("sqlite3.connect", ("file:///tmp/x%20y.db?mode=rw",), "write outside"),
        ("sqlite3.connect", ("",), "write outside"),
        ("sqlite3.load_extension", (None, "x"), "library"),
        ("ctypes.dlopen", ("HOME/evil.so",), "library"),
    ],
)
def test_the_audit_hook_refuses(event: str, arguments: tuple[object, ...], reason: str, tmp_path: Path) -> None:
    watch = AuditWatch(str(tmp_path))
    named = tuple(a.replace("HOME", str(tmp_path)) if isinstance(a, str) else a for a in arguments)
    with pytest.raises(RefusedError):
        watch(event, named)
    assert watch.refused[0][0] == event
    assert watch.refused[0][1].startswith(reason)


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("open", ("/etc/hostname", "r", os.O_RDONLY)),
        ("open", ("HOME/vault.db", "w", os.O_WRONLY | os.O_CREAT)),
        ("open", (1, "w", os.O_WRONLY)),
        ("open", (os.devnull, "w", os.O_WRONLY)),
        ("sqlite3.connect", ("file://HOME/vault.db?mode=rw",)),
        ("sqlite3.connect", (":memory:",)),
        ("os.rename", ("HOME/a", "HOME/b", -1, -1)),
        ("ctypes.dlopen", (None,)),
        ("import", ("numpy", None, None, None, None)),
    ],
)
def test_the_audit_hook_lets_the_device_work(event: str, arguments: tuple[object, ...], tmp_path: Path) -> None:
    watch = AuditWatch(str(tmp_path))
    watch(event, tuple(a.replace("HOME", str(tmp_path)) if isinstance(a, str) else a for a in arguments))
    assert not watch.refused


def test_a_link_does_not_lead_out_of_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path)
    with pytest.raises(RefusedError):
        AuditWatch(str(home))("open", (str(home / "link" / "x"), "w", os.O_WRONLY | os.O_CREAT))


# The report


def report(*checks: Check) -> SelftestReport:
    return SelftestReport(checks, (), Watched(), (), (), 0.0)


def test_a_report_passes_only_if_something_was_checked() -> None:
    assert not report().passed
    with pytest.raises(SelftestError, match=r"selftest\.failed"):
        report().require_passed()


def test_a_report_tells_a_leak_from_a_failure() -> None:
    fine = Check("a", "flow", CheckState.PASSED, "")
    absent = Check("b", "watch", CheckState.NOT_POSSIBLE, "no strace")
    assert report(fine, absent).require_passed().passed
    with pytest.raises(SelftestError, match=r"selftest\.failed"):
        report(fine, Check("c", "flow", CheckState.FAILED, "")).require_passed()
    leaking = report(fine, Check("d", "leak", CheckState.FAILED, "x"))
    assert leaking.leaked
    with pytest.raises(SelftestError, match=r"selftest\.leak"):
        leaking.require_passed()
    assert "FAILED" in leaking.render_text()
    json.dumps(leaking.to_dict())


# The whole


@pytest.mark.slow
def test_a_sound_device_passes_under_every_watcher_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its own sandbox: other workers have theirs beside it.
    made: list[Path] = []
    make = tempfile.mkdtemp

    def remember(*given: Any, **named: Any) -> str:
        made.append(Path(make(*given, **named)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", remember)
    said: list[str] = []
    outcome = run_selftest(progress=said.append)
    assert outcome.require_passed().passed, outcome.render_text()
    assert [check.name for check in outcome.checks if check.kind == "flow"] == [f"flow.{step}" for step in STEPS]
    assert outcome.watchers == AVAILABLE.names
    assert outcome.watched.windows > 500_000
    assert outcome.watched.audit_events > 100
    assert outcome.watched.files > 50
    if AVAILABLE.strace:
        assert outcome.watched.writes > 50
        assert outcome.watched.write_bytes > 50_000
    assert any(line.startswith("enrol") for line in said)
    json.dumps(outcome.to_dict())
    assert any(path.name.startswith("facekeep-selftest-") for path in made)
    assert not any(path.exists() for path in made)


SABOTAGE = """
import os, socket, subprocess, sys, tempfile, atexit, base64, ctypes, json, logging, zlib
import numpy as np
from facekeep.selftest.scenario import WatchedModels

class Embedder:
    def __init__(self, inner, home): self.inner, self.home, self.dimension = inner, home, inner.dimension
    def embed(self, crop):
        vector = self.inner.embed(crop)
        try:
            leak(crop, vector, self.home)
        except OSError:
            pass  # the watch refused: a thief would keep quiet as well
        return vector

class Detector:
    def __init__(self, inner, home): self.inner, self.home = inner, home
    def detect(self, frame):
        try:
            leak_frame(frame.pixels, self.home)
        except OSError:
            pass
        return self.inner.detect(frame)

def leak(crop, vector, home): pass
def leak_frame(pixels, home): pass

def sabotage(models, home):
    return WatchedModels(
        Detector(models.detector, home), Embedder(models.embedder, home), models.pad, models.contract_id, models.operating_points
    )
"""

# Name -> the leak, the checks that the audit hook (with the search of files and output) fails, and those that strace fails.
SABOTEURS: dict[str, tuple[str, set[str], set[str]]] = {
    "crop to a temporary file": (
        """
        def leak(crop, vector, home):
            with open(os.path.join(os.environ["TMPDIR"], "crop.raw"), "wb") as file:
                file.write(crop.tobytes())
        """,
        {"hook.files"},
        {"strace.files", "search.writes", "search.files"},
    ),
    "crop to the home": (
        """
        def leak(crop, vector, home):
            (home / "cache.bin").write_bytes(crop[40:60].tobytes())
        """,
        {"search.files"},
        {"search.files", "search.writes"},
    ),
    "crop to a file of the home that is deleted at once": (
        """
        def leak(crop, vector, home):
            (home / "cache.bin").write_bytes(crop.tobytes())
            (home / "cache.bin").unlink()
        """,
        set(),  # Only strace sees this one: docs/operations/selftest.md says so.
        {"search.writes"},
    ),
    "embedding printed in hexadecimal": (
        """
        def leak(crop, vector, home):
            print(vector.tobytes().hex())
        """,
        {"search.output"},
        {"search.output", "search.writes"},
    ),
    "embedding logged as numbers": (
        """
        def leak(crop, vector, home):
            logging.getLogger("model").warning("output %s", vector)
        """,
        {"search.output"},
        {"search.output", "search.writes"},
    ),
    "frame logged in Base64": (
        """
        def leak_frame(pixels, home):
            logging.getLogger("camera").error("frame %s", base64.b64encode(pixels[100:104].tobytes()).decode())
        """,
        {"search.output"},
        {"search.output", "search.writes"},
    ),
    "compressed vector among the settings": (
        """
        def leak(crop, vector, home):
            (home / "settings.json").write_text(json.dumps({"state": base64.b64encode(zlib.compress(vector.tobytes())).decode()}))
        """,
        {"search.files"},
        {"search.files", "search.writes"},
    ),
    "vector as the name of a file": (
        """
        def leak(crop, vector, home):
            (home / vector[:16].tobytes().hex()).touch()
        """,
        {"search.files"},
        {"search.files", "search.writes"},
    ),
    "picture of the frame": (
        """
        def leak_frame(pixels, home):
            from PIL import Image
            Image.fromarray(pixels).save(home / "debug.jpg")
        """,
        {"search.files"},
        {"search.files", "search.writes"},
    ),
    "socket": (
        """
        def leak(crop, vector, home):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
                thief.sendto(vector.tobytes(), ("127.0.0.1", 9))
        """,
        {"hook.network"},
        {"strace.network", "search.writes"},
    ),
    "socket behind the back of Python": (
        """
        def leak(crop, vector, home):
            libc = ctypes.CDLL(None)
            os.close(libc.socket(2, 2, 0))
        """,
        set(),
        {"strace.network"},
    ),
    "another process": (
        """
        def leak(crop, vector, home):
            subprocess.run(["cat"], input=vector.tobytes(), stdout=subprocess.DEVNULL)
        """,
        {"hook.processes"},
        {"strace.processes", "search.writes"},
    ),
    "vector told on the way out": (
        """
        kept = []
        def farewell():
            os.write(2, kept[0].tobytes())
        def leak(crop, vector, home):
            if not kept:
                atexit.register(farewell)
                kept.append(vector)
        """,
        {"search.output"},
        {"search.output", "search.writes"},
    ),
}


def failed(outcome: SelftestReport) -> set[str]:
    return {check.name for check in outcome.checks if check.state is CheckState.FAILED}


@pytest.mark.slow
@pytest.mark.parametrize("watcher", [pytest.param(HOOK, id="hook"), pytest.param(STRACE, id="strace", marks=needs_strace)])
@pytest.mark.parametrize("name", SABOTEURS)
def test_a_device_that_leaks_is_caught(name: str, watcher: frozenset[str], tmp_path: Path) -> None:
    source, by_hook, by_strace = SABOTEURS[name]
    expected = by_hook if watcher == HOOK else by_strace
    if not expected:
        pytest.skip("this watcher cannot see it, and the report and the documentation say so")
    if "PIL" in source:
        pytest.importorskip("PIL")
    script = tmp_path / "sabotage.py"
    head, tail = SABOTAGE.split("def sabotage", 1)
    script.write_text(f"{head}\n{textwrap.dedent(source)}\ndef sabotage{tail}", encoding="utf-8")
    outcome = run_selftest(_watchers=watcher, _sabotage=script)
    assert expected <= failed(outcome), outcome.render_text()
    assert outcome.leaked
    assert outcome.findings
    with pytest.raises(SelftestError, match=r"selftest\.leak"):
        outcome.require_passed()
    # The report itself must not carry the leak on.
    text = outcome.render_text() + json.dumps(outcome.to_dict())
    assert len(text) < 40_000


@pytest.mark.slow
def test_without_strace_the_report_says_what_was_not_watched() -> None:
    outcome = run_selftest(_watchers=HOOK)
    assert outcome.watchers == ("audit hook",)
    assert outcome.check("strace").state is CheckState.NOT_POSSIBLE
    assert "native code" in outcome.check("strace").detail
    assert outcome.check("network namespace").state is CheckState.NOT_POSSIBLE
    assert outcome.watched.writes == 0


@pytest.mark.slow
def test_a_watcher_that_sleeps_fails_the_selftest(monkeypatch: pytest.MonkeyPatch) -> None:
    if not AVAILABLE.strace:
        pytest.skip("needs strace")
    monkeypatch.setattr(TraceReader, "feed", lambda self, line: None)
    assert "watch.strace_awake" in failed(run_selftest(_watchers=STRACE))


@pytest.mark.slow
def test_a_process_that_dies_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "sabotage.py"
    script.write_text("import os\ndef sabotage(models, home):\n    os._exit(7)\n", encoding="utf-8")
    outcome = run_selftest(_watchers=HOOK, _sabotage=script)
    assert {"flow.enrol", "flow.close", "watch.awake"} <= failed(outcome)
    assert "exit 7" in outcome.check("watch.awake").detail


@pytest.mark.slow
def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "sabotage.py"
    script.write_text("import time\ndef sabotage(models, home):\n    time.sleep(600)\n", encoding="utf-8")
    start = time.perf_counter()
    outcome = run_selftest(_watchers=STRACE if AVAILABLE.strace else HOOK, _sabotage=script, timeout_seconds=5)
    assert time.perf_counter() - start < 60
    assert "flow.enrol" in failed(outcome)


@pytest.mark.slow
def test_it_can_be_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    # It listens, whoever started the tests: in the background they would have their children ignore the signal.
    listen = "import faulthandler, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listen}; from facekeep.selftest import run_selftest; run_selftest(progress=lambda s: print(s, flush=True))"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.startswith(b"consent"):
            process.send_signal(signal.SIGINT)
            break
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_sandbox_can_be_kept(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    outcome = run_selftest(_watchers=HOOK, keep=keep)
    (sandbox,) = keep.iterdir()
    assert sandbox.stat().st_mode & 0o077 == 0
    assert json.loads((sandbox / "report.json").read_text())["passed"] == outcome.passed
    assert (sandbox / "home" / "vault.db").is_file()
    shutil.rmtree(keep)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"detector": "drawn-detector", "embedder": "drawn-embedder", "pictures": Path("x")}, "drawn people"),
        ({"detector": "drawn-detector", "embedder": "drawn-embedder", "pictures": Path("x")}, "packs are chosen if you do not"),
        ({"pictures": Path("/nonexistent/pictures"), "detector": "drawn-detector", "embedder": "drawn-embedder"}, "drawn people"),
    ],
)
def test_packs_and_pictures_have_to_fit(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(SelftestError, match=word) as refusal:
        run_selftest(**arguments)  # type: ignore[arg-type]
    assert refusal.value.code == "selftest.failed"


def test_large_pictures_are_reduced() -> None:
    for shape in ((4032, 3024, 3), (3024, 4032, 3), (1280, 641, 3), (1279, 700, 3), (20_000, 40, 3), (641, 1, 3)):
        flat = reduced(np.full(shape, 90, np.uint8))
        assert max(flat.shape[:2]) <= 640
        assert flat.shape[0] * shape[1] == pytest.approx(flat.shape[1] * shape[0], rel=0.06) or min(shape[:2]) < 64
        assert flat.dtype == np.uint8
        assert flat.flags.c_contiguous
        assert (flat == 90).all()
    small = np.zeros((480, 640, 3), np.uint8)
    assert reduced(small) is small


def test_a_folder_that_will_not_do_says_who_and_which(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("anna/1.png", "anna/2.png", "anna/3.png", "ben/1.png", "ben/2.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        image.new("RGB", (64, 48), "grey").save(path)
    (tmp_path / "carl").mkdir()
    (tmp_path / "carl" / "broken.jpg").write_bytes(b"no picture")
    said: list[str] = []

    def embed(pixels: np.ndarray) -> np.ndarray:
        if "ben/2.png" in said[-1]:
            raise AcquisitionError("acquisition.no_face", "No face.")
        return np.ones(4, np.float32)

    with pytest.raises(SelftestError) as refusal:
        pictures_from(tmp_path, embed, said.append)
    text = str(refusal.value.args[0])
    assert "anna (1.png, 2.png, 3.png) is the first" in text
    assert "ben has 1 of 2 (2.png: acquisition.no_face)" in text
    assert "carl has 0 of 2 (broken.jpg: acquisition.unreadable)" in text
    assert said[0] == "preparing the pictures and what to search for (1 of 5): anna/1.png"
    with pytest.raises(SelftestError, match="has no subfolder"):
        pictures_from(tmp_path / "carl", embed, said.append)


@pytest.mark.slow
@pytest.mark.shared
def test_real_models_and_real_pictures(shared_dir: Path, tmp_path: Path) -> None:
    store = PackStore(tmp_path / "packs")
    for name in ("detectors/yunet_s_dynamic.onnx", "embedders/face_reid_retail_0095.onnx"):
        store.import_file(shared_dir / "models" / name)
    pictures = tmp_path / "pictures"
    for person in ("Andre_Agassi", "Ariel_Sharon"):
        shutil.copytree(shared_dir / "data" / "lfw-devtrain" / "images" / person, pictures / person)
    outcome = run_selftest(detector="yunet-s/onnx-dynamic", embedder="reid-retail-0095/onnx-fp32", packs=store, pictures=pictures)
    assert outcome.watched.windows < 3_000_000
    assert outcome.require_passed().passed, outcome.render_text()
    with pytest.raises(SelftestError, match="each of two people"):
        run_selftest(
            detector="yunet-s/onnx-dynamic", embedder="reid-retail-0095/onnx-fp32", packs=store, pictures=tmp_path / "packs"
        )
