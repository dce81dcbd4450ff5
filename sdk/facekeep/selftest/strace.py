"""Reading what strace says: every byte that was handed to the kernel, every network call, every other way out.

The trace is read while it is made, through a named pipe, so that it never lies on a disk. Every string in it is hexadecimal
(`-xx`), every descriptor has its path (`-y`), no string is cut below a mebibyte (`-s`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

LONGEST_STRING: Final = 1 << 20

_WRITES: Final = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "setxattr", "lsetxattr", "fsetxattr", "prctl")
_SENDS: Final = ("sendto", "sendmsg", "sendmmsg")
_NETWORK: Final = ("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", *_SENDS)
_OPENS: Final = ("open", "openat", "openat2", "creat")
_NAMES: Final = (
    "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "truncate",
)  # fmt: skip
_PROCESSES: Final = ("execve", "execveat", "fork", "vfork", "clone", "clone3")
_COPIES: Final = ("sendfile", "sendfile64", "splice", "tee", "copy_file_range")
# Ways to hand bytes over that a trace of system calls does not show.
_OPAQUE: Final = (
    "io_uring_setup", "io_submit", "vmsplice", "process_vm_writev", "shmget", "mq_open", "mq_timedsend", "msgsnd", "ptrace",
    "memfd_create", "add_key", "bpf", "pidfd_getfd",
)  # fmt: skip
# A question mark: a name that this machine or this strace does not know is no error.
TRACED: Final = ",".join(
    f"?{name}" for name in (*_WRITES, *_NETWORK, *_OPENS, *_NAMES, *_PROCESSES, *_COPIES, *_OPAQUE, "mmap", "mmap2")
)

_CALL: Final = re.compile(rb"^(?:\[pid +)?(\d+)\]? +([a-z0-9_]+)\((.*)$", re.DOTALL)
_RESUMED: Final = re.compile(rb"^(?:\[pid +)?(\d+)\]? +<\.\.\. ([a-z0-9_]+) resumed>(.*)$", re.DOTALL)
_STRING: Final = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR: Final = re.compile(rb"^(?:AT_FDCWD|-?\d+)<((?:\\x[0-9a-f]{2}|[^>\\])*)>(\(deleted\))?")
_RESULT: Final = re.compile(rb"\) += (-?\d+|\?)(?:<((?:\\x[0-9a-f]{2}|[^>\\])*)>)?")
_FAMILY: Final = re.compile(rb"(?:AF|PF)_([A-Z0-9]+)")
_WRITABLE: Final = re.compile(rb"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE")
_NSCD: Final = "/var/run/nscd/socket"


def command(fifo: Path) -> list[str]:
    """Return the strace command that a program's command line is put behind.

    Args:
        fifo: named pipe that the trace goes to.
    """
    options = ["-f", "-qq", "-y", "-xx", "-s", str(LONGEST_STRING), "-e", f"trace={TRACED}", "-e", "signal=none"]
    return ["strace", *options, "-o", str(fifo)]


@dataclass(slots=True)
class Trace:
    """What one stretch of a run did.

    Attributes:
        streams: target -> everything written to it, in order.
        writes: number of calls that wrote.
        network: network calls, in words.
        processes: processes that were started.
        opened: paths that were opened for writing.
        opaque: ways out that cannot be searched.
        mapped: files mapped shared and writable.
    """

    streams: dict[str, bytearray] = field(default_factory=dict)
    writes: int = 0
    network: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    opened: set[str] = field(default_factory=set)
    opaque: list[str] = field(default_factory=list)
    mapped: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Bytes written in all."""
        return sum(len(stream) for stream in self.streams.values())


class TraceReader:
    """Sorts the lines of a trace: what the run did, and what the deliberate violations at its end did.

    Args:
        mark: random text; the watched process writes "begin-" and it before the violations, "end-" and it after them.
    """

    def __init__(self, mark: str) -> None:
        self._begin, self._end = f"begin-{mark}".encode("ascii"), f"end-{mark}".encode("ascii")
        self._executed = False
        self._pending: dict[tuple[bytes, bytes], bytes] = {}
        self.run = Trace()
        self.control = Trace()
        self._trace = self.run
        self.lines = 0

    def feed(self, line: bytes) -> None:
        """Read one line."""
        self.lines += 1
        if resumed := _RESUMED.match(line):
            pid, name, rest = resumed.groups()
            self._finish(name.decode("ascii"), self._pending.pop((pid, name), b"") + rest)
            return
        if call := _CALL.match(line):
            pid, name, rest = call.groups()
            if rest.endswith(b"<unfinished ...>"):
                self._pending[pid, name] = rest.removesuffix(b"<unfinished ...>")
                return
            self._finish(name.decode("ascii"), rest)

    def close(self) -> None:
        """Take calls that never returned (a killed process) as if they had: their bytes were handed over."""
        for (_, name), rest in sorted(self._pending.items()):
            self._finish(name.decode("ascii"), rest)
        self._pending.clear()

    def _finish(self, name: str, rest: bytes) -> None:
        if name in _WRITES or name in _SENDS:
            self._write(name, rest)
        if name in _NETWORK:
            self._network(name, rest)
        elif name in _OPENS:
            self._open(rest)
        elif name in _NAMES:
            # A name is bytes too: a picture could leave as the name of a directory.
            self._append("(names)", b"\n".join(_strings(rest)) + b"\n")
        elif name in _PROCESSES:
            self._process(name, rest)
        elif name in _OPAQUE:
            self._trace.opaque.append(f"{name}, whose bytes a trace does not show")
        elif name in _COPIES:
            self._trace.opaque.append(f"{name} to {_target(rest)}, a copy inside the kernel")
        elif name in {"mmap", "mmap2"} and b"MAP_SHARED" in rest and b"PROT_WRITE" in rest:
            self._map(rest)

    def _write(self, name: str, rest: bytes) -> None:
        target = "(attributes)" if name.endswith("xattr") else "(process name)" if name == "prctl" else _target(rest)
        if name == "prctl" and not _STRING.search(rest):
            return
        data = b"".join(_strings(rest))
        if any(found.group(2) for found in _STRING.finditer(rest)):
            self._trace.opaque.append(f"{name} to {target} of more than {LONGEST_STRING} bytes at once: not all of it was seen")
        if self._begin in data:
            self._trace = self.control
        elif self._end in data:
            # What happens while the process ends belongs to the run again: a farewell message leaks like any other.
            self._trace = self.run
        self._trace.writes += 1
        self._append(target, data)

    def _append(self, target: str, data: bytes) -> None:
        self._trace.streams.setdefault(target, bytearray()).extend(data)

    def _network(self, name: str, rest: bytes) -> None:
        family = _FAMILY.search(rest)
        kind = family.group(1).decode("ascii") if family else "unknown family"
        strings = _strings(rest)
        # glibc asks its name service cache for the user's name over a local socket.
        if kind in {"UNIX", "LOCAL"} and name == "socket":
            return
        if name == "connect" and kind in {"UNIX", "LOCAL"} and strings and strings[0].decode("utf-8", "replace") == _NSCD:
            return
        if name in _SENDS and _target(rest) == f"unix:{_NSCD}":
            return
        self._trace.network.append(f"{name} ({kind})")

    def _open(self, rest: bytes) -> None:
        result = _RESULT.search(rest)
        flags = _STRING.sub(b"", rest)
        if not _WRITABLE.search(flags) or (result is not None and result.group(1).startswith(b"-")):
            return
        strings = _strings(rest)
        name = strings[0].decode("utf-8", "replace") if strings else ""
        self._append("(names)", name.encode() + b"\n")
        if result is not None and result.group(2):
            self._trace.opened.add(_text(result.group(2)))
        else:
            base = _DESCRIPTOR.match(rest)
            self._trace.opened.add(str(PurePosixPath(_text(base.group(1)) if base else "/", name)))

    def _process(self, name: str, rest: bytes) -> None:
        if name.startswith("clone") and b"CLONE_THREAD" in rest:
            return
        if name == "execve" and not self._executed:
            # strace's own: the program that is watched.
            self._executed = True
            return
        strings = _strings(rest)
        self._trace.processes.append(f"{name} {strings[0].decode('utf-8', 'replace')}" if strings else name)

    def _map(self, rest: bytes) -> None:
        arguments = rest.split(b", ")
        target = _target(b", ".join(arguments[4:])) if len(arguments) > 4 else ""
        if b"MAP_ANONYMOUS" not in rest:
            self._trace.mapped.add(target)


def _strings(rest: bytes) -> list[bytes]:
    return [bytes.fromhex(found.group(1).replace(b"\\x", b"").decode("ascii")) for found in _STRING.finditer(rest)]


def _target(rest: bytes) -> str:
    found = _DESCRIPTOR.match(rest)
    if found is None:
        return "unknown"
    return _text(found.group(1)) + (" (deleted)" if found.group(2) else "")


def _text(decoration: bytes) -> str:
    if decoration.startswith(b"\\x"):
        decoration = bytes.fromhex(decoration.replace(b"\\x", b"").decode("ascii"))
    return decoration.decode("utf-8", "replace")
