"""The watch inside the watched process: a Python audit hook that records and refuses.

An audit hook cannot be taken out again, so whatever runs later runs under it. It sees what Python code does; what native code
does by itself only strace sees.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Final
from urllib.parse import unquote

_NETWORK: Final = (
    "socket.", "urllib.", "http.client.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "nntplib.", "telnetlib.", "syslog.",
    "webbrowser.",
)  # fmt: skip
_PROCESSES: Final = (
    "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile", "pty.spawn",
)  # fmt: skip
_WRITABLE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Event -> which arguments name something that is made or changed.
_PATHS: Final = {
    "os.mkdir": (0,), "os.rename": (0, 1), "os.link": (0, 1), "os.symlink": (1,), "os.truncate": (0,), "os.setxattr": (0,),
    "os.remove": (0,), "os.rmdir": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
}  # fmt: skip


class RefusedError(PermissionError):
    """What the watch raises in place of what was tried."""


class AuditWatch:
    """Records and refuses the network, other processes, and writing outside one directory.

    Args:
        home: the only directory in which anything may be written.
    """

    def __init__(self, home: str) -> None:
        self._home = os.path.realpath(home)
        self._inside = threading.local()
        self.refused: list[tuple[str, str]] = []
        self.events = 0

    def install(self) -> None:
        """Begin to watch. There is no end to it."""
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Judge one audit event.

        Raises:
            RefusedError: for what is not allowed.
        """
        if getattr(self._inside, "busy", False):
            return
        self._inside.busy = True
        try:
            self.events += 1
            reason = self._reason(event, arguments)
            if reason is None:
                return
            self.refused.append((event, reason))
        finally:
            self._inside.busy = False
        raise RefusedError(f"the selftest refuses {event}: {reason}")

    def _reason(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event == "open":
            path, _, flags = arguments
            return self._outside(path) if isinstance(flags, int) and flags & _WRITABLE else None
        if event.startswith(_NETWORK):
            return "network"
        if event.startswith(_PROCESSES):
            return "process"
        if event in _PATHS:
            return next((reason for index in _PATHS[event] if (reason := self._outside(arguments[index]))), None)
        if event == "sqlite3.connect":
            return self._database(arguments[0])
        if event in {"sqlite3.load_extension", "sqlite3.enable_load_extension"}:
            return "library"
        if event == "ctypes.dlopen" and arguments[0] is not None and self._outside(arguments[0]) is None:
            # A library out of a directory that can be written: code that nobody installed.
            return "library"
        return None

    def _outside(self, path: object) -> str | None:
        if isinstance(path, int):
            return None  # A descriptor that is open already; opening it was judged.
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        real = os.path.realpath(text)
        if real == os.devnull or real == self._home or real.startswith(self._home + os.sep):
            return None
        return f"write outside the home: {real}"

    def _database(self, database: object) -> str | None:
        text = os.fsdecode(database) if isinstance(database, str | bytes | os.PathLike) else ""
        if text == ":memory:":
            return None
        if text.startswith("file:"):
            text = unquote(text.removeprefix("file:").split("?", 1)[0])
            text = text.removeprefix("//")
        return self._outside(text) if text else "write outside the home: a temporary database"
