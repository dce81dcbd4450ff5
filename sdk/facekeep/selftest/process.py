"""Running the watched process: under whichever watchers work here, fed and heard through pipes, never outliving this call."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import SelftestError
from facekeep.selftest import strace
from facekeep.selftest.sandbox import Sandbox

_PROBE_SECONDS: Final = 20
_LARGEST_OUTPUT: Final = 1 << 26
_PROTOCOL: Final = frozenset({"step", "held", "watch", "control", "violations"})


@dataclass(frozen=True, slots=True)
class Watchers:
    """Which watchers there are.

    Attributes:
        audit_hook: whether the process watches itself.
        strace: whether strace traces it.
        namespace: command that gives it an empty network namespace, or nothing.
        missing: watcher -> why it cannot be used.
    """

    audit_hook: bool = True
    strace: bool = False
    namespace: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The watchers in use."""
        chosen = {"audit hook": self.audit_hook, "network namespace": bool(self.namespace), "strace": self.strace}
        return tuple(name for name, used in chosen.items() if used)


def find_watchers(wanted: frozenset[str]) -> Watchers:
    """Return which of the wanted watchers work here, each tried out."""
    missing: dict[str, str] = {}
    namespace: tuple[str, ...] = ()
    if "network namespace" in wanted:
        for prefix in (("unshare", "-n", "--"), ("unshare", "-r", "-n", "--")):
            reason = _reason_against([*prefix, "true"])
            if reason is None:
                namespace = prefix
                break
            missing["network namespace"] = reason
        else:
            namespace = ()
        if namespace:
            missing.pop("network namespace", None)
    uses_strace = False
    if "strace" in wanted:
        reason = _reason_against([*namespace, *strace.command(Path(os.devnull)), "true"])
        uses_strace = reason is None
        if reason is not None:
            missing["strace"] = reason
    return Watchers("audit hook" in wanted, uses_strace, namespace, missing)


def _reason_against(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False)  # noqa: S603
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} does not run ({type(error).__name__})"
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"{command[0]} is refused here: {said[-1][:120] if said else f'exit {done.returncode}'}"


@dataclass(slots=True)
class Evidence:
    """What came out of a run.

    Attributes:
        messages: what the process said, in order.
        stray: lines on its standard output that are not its own.
        output: all of standard output.
        errors: all of standard error.
        trace: the system calls, where strace ran.
        ended: exit status; negative for a signal; None when it was stopped because it took too long.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    stray: int = 0
    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    trace: strace.TraceReader | None = None
    ended: int | None = None

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the messages of one kind."""
        return [message for message in self.messages if message["event"] == event]


def run_watched(
    sandbox: Sandbox,
    settings: dict[str, Any],
    pictures: dict[str, NDArray[np.uint8]],
    watchers: Watchers,
    *,
    on_message: Callable[[dict[str, Any]], None],
    timeout_seconds: float,
) -> Evidence:
    """Run the scenario in a process of its own and return what was seen of it.

    Args:
        sandbox: where it runs.
        settings: what it is told.
        pictures: what its camera sees; they go through a pipe and touch no disk.
        watchers: what watches it.
        on_message: called for each message while the process waits.
        timeout_seconds: longest silence between two messages.

    Raises:
        SelftestError: "selftest.failed" if no process can be started.
    """
    if not sys.executable:
        raise SelftestError("selftest.failed", "The Python interpreter does not know its own path, so no process can be watched.")
    python = [sys.executable, "-P", "-B", "-X", "utf8", "-m", "facekeep.selftest.child"]
    evidence = Evidence()
    listener: _TraceListener | None = None
    command = [*watchers.namespace, *python]
    if watchers.strace:
        evidence.trace = strace.TraceReader(str(settings["mark"]))
        listener = _TraceListener(sandbox.root / "trace", evidence.trace)
        command = [*watchers.namespace, *strace.command(listener.fifo), *python]
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=sandbox.cwd,
            env=sandbox.environment(),
            # A group of its own: Ctrl-C reaches this process only, which then ends the whole group.
            start_new_session=True,
        )
    except OSError as error:
        if listener is not None:
            listener.stop()
        raise SelftestError("selftest.failed", f"No process can be started: {error.strerror}.") from None
    try:
        _converse(process, evidence, settings, pictures, on_message, timeout_seconds)
    finally:
        _close(process)
        if listener is not None:
            listener.stop()
    return evidence


def _converse(
    process: subprocess.Popen[bytes],
    evidence: Evidence,
    settings: dict[str, Any],
    pictures: dict[str, NDArray[np.uint8]],
    on_message: Callable[[dict[str, Any]], None],
    timeout_seconds: float,
) -> None:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise SelftestError("selftest.failed", "The watched process has no pipes.")
    lines: queue.Queue[bytes | None] = queue.Queue()
    readers = [
        threading.Thread(target=_read_lines, args=(process.stdout, evidence.output, lines), daemon=True),
        threading.Thread(target=_read_all, args=(process.stderr, evidence.errors), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        settings["pictures"] = [[name, list(pixels.shape)] for name, pixels in pictures.items()]
        process.stdin.write(json.dumps(settings).encode("utf-8") + b"\n")
        for pixels in pictures.values():
            process.stdin.write(pixels.tobytes())
        process.stdin.flush()
        while (line := lines.get(timeout=timeout_seconds)) is not None:
            message = _parsed(line)
            if message is None:
                evidence.stray += 1
                continue
            evidence.messages.append(message)
            on_message(message)
            if message["event"] in {"step", "watch"}:
                process.stdin.write(b"go\n")
                process.stdin.flush()
        evidence.ended = process.wait(timeout_seconds)
    except BrokenPipeError:
        evidence.ended = process.wait(timeout_seconds)
    except (queue.Empty, subprocess.TimeoutExpired):
        evidence.ended = None
    finally:
        _kill(process)
        for reader in readers:
            reader.join(timeout=_PROBE_SECONDS)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: strace, the watched process and whatever it may have started."""
    # Once it was waited for, its number may be another's.
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    _kill(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        # Closing flushes, and there may be nobody left to read.
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("event") in _PROTOCOL else None


def _read_lines(stream: BinaryIO, everything: bytearray, lines: queue.Queue[bytes | None]) -> None:
    for line in stream:
        if len(everything) < _LARGEST_OUTPUT:
            everything += line
        lines.put(line)
    lines.put(None)


def _read_all(stream: BinaryIO, everything: bytearray) -> None:
    while chunk := stream.read(1 << 16):
        if len(everything) < _LARGEST_OUTPUT:
            everything += chunk


class _TraceListener:
    """Reads the trace from a named pipe while it is written.

    Args:
        fifo: where the named pipe is made.
        reader: what is fed with the lines.
    """

    def __init__(self, fifo: Path, reader: strace.TraceReader) -> None:
        self.fifo = fifo
        self._reader = reader
        os.mkfifo(fifo, 0o600)
        # Opened before there is a writer, or strace would wait for a reader for ever.
        self._descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read what is left and end."""
        self._done.set()
        self._thread.join(timeout=_PROBE_SECONDS)
        os.close(self._descriptor)
        self.fifo.unlink(missing_ok=True)
        self._reader.close()

    def _listen(self) -> None:
        rest = b""
        while True:
            # Asked before reading: what comes after the end was announced and nothing is left is nothing.
            done = self._done.is_set()
            ready, _, _ = select.select([self._descriptor], [], [], 0.05)
            try:
                chunk = os.read(self._descriptor, 1 << 20) if ready else b""
            except BlockingIOError:
                chunk = b""
            if not chunk:
                if done:
                    break
                self._done.wait(0.02)  # No writer yet, or none any more.
                continue
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._reader.feed(line)
        if rest:
            self._reader.feed(rest)
