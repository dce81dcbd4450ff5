"""Processes that a demo or a test starts and that end with it: each with a log file, none left behind.

Each leads a process group of its own, which gets SIGTERM and then SIGKILL at the end; if this process is killed, the kernel tells
them. Flower's own children watch their parents.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from facekeep.flower.node import Launch
from facekeep_server.errors import ServerError

_PR_SET_PDEATHSIG: Final = 1  # man 2 prctl
_GRACE_SECONDS: Final = 10
_MARK: Final = "FACEKEEP_PROCESSES"


class Processes:
    """A context: whatever was started in it has ended when it is left.

    Args:
        logs: directory of the log files, one for each name.
        environment: laid under that of each launch.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str] | None = None) -> None:
        self._logs = logs
        self._environment = dict(os.environ if environment is None else environment)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        # Flower detaches what it starts, and a ClientApp whose SuperNode was killed waits for it for ever: the mark finds them all.
        self._mark = uuid.uuid4().hex
        self._before: Any = None
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Processes:
        # Asked to end, this process ends as after Ctrl-C, so that what it started does not stay behind.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop_all()
        finally:
            if self._before is not None:
                signal.signal(signal.SIGTERM, self._before)

    def start(self, name: str, launch: Launch, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process; its output is appended to the log file of its name."""
        with self.log_path(name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                launch.arguments,
                env={**launch.over(self._environment), **(environment or {}), _MARK: f"{self._mark} {name}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call into libc, made before any thread of the child
            )
        self._running[name] = process
        return process

    def log_path(self, name: str) -> Path:
        """Return where the output of a process goes."""
        return self._logs / f"{name}.log"

    def log_text(self, name: str) -> str:
        """Return the output of a process so far."""
        path = self.log_path(name)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def is_running(self, name: str) -> bool:
        """Return whether the process runs."""
        return name in self._running and self._running[name].poll() is None

    def kill(self, name: str) -> None:
        """End a process and all it started at once, as a power cut would: with SIGKILL."""
        self._signal(name, signal.SIGKILL)
        for process in self._marked(f"{self._mark} {name}\0"):
            _kill(process)
        self._running.pop(name).wait()

    def wait_until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Return when `done` says so.

        Raises:
            ServerError: "server.unavailable" if it does not within `seconds`, or a process ended meanwhile.
        """
        end = time.monotonic() + seconds
        while not done():
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            if ended:
                tail = self.log_text(ended[0])[-2_000:]
                raise ServerError("server.unavailable", f"{ended[0]} ended while waiting for {what}:\n{tail}")
            if time.monotonic() > end:
                raise ServerError("server.unavailable", f"Waited {seconds:g} s for {what}.")
            time.sleep(0.2)

    def stop_all(self) -> None:
        """End every process: first asked, then made to."""
        for name in list(self._running):
            self._signal(name, signal.SIGTERM)
        end = time.monotonic() + _GRACE_SECONDS
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
        for name, process in self._running.items():
            # The group, though its leader may be gone: what it started must not stay.
            self._signal(name, signal.SIGKILL)
            process.wait()
        self._running.clear()
        for left in self._marked(self._mark):
            _kill(left)

    def _marked(self, mark: str) -> list[int]:
        wanted = f"\0{_MARK}={mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in b"\0" + (path / "environ").read_bytes():
                    found.append(int(path.name))
        return found

    def _signal(self, name: str, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._running[name].pid, number)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(address: str) -> bool:
    """Return whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=1):
        return True
    return False


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
