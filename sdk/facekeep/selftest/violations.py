"""Deliberate violations at the end of a run: what the watch must have seen, or it was not awake. Runs in the child.

None of them carries a byte of a picture, none reaches another machine: the file holds a random mark, and the socket is only
asked whether there is a route to 192.0.2.1 (RFC 5737: an address that belongs to nobody).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

_NOWHERE: Final = ("192.0.2.1", 9)


def violate(home: Path, mark: str, *, native: bool) -> dict[str, Any]:
    """Break every rule once and return what happened.

    Args:
        home: the home of the device.
        mark: random text that is written to a file which is then deleted.
        native: also open a socket behind the back of Python, as native code would.
    """
    outcome: dict[str, Any] = {"route": None, "outside": True, "socket": True}
    path = home / "violation"
    path.write_bytes(mark.encode("ascii"))
    path.unlink()
    try:
        outside = Path(os.environ["TMPDIR"], "violation")
        outside.write_bytes(b"outside the home")
        outside.unlink()
    except PermissionError:
        outcome["outside"] = False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as python_socket:
            outcome["route"] = _route(python_socket)
    except PermissionError:
        outcome["socket"] = False
    if native:
        outcome["route"] = _native_route()
    return outcome


def _route(udp: socket.socket) -> bool:
    # To connect a datagram socket sends nothing: it looks up a route.
    try:
        udp.connect(_NOWHERE)
    except OSError:
        return False
    return True


def _native_route() -> bool | None:
    """Return whether there is a route out of here, asked of the C library: no audit hook sees it, strace does."""
    import ctypes

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.socket(int(socket.AF_INET), int(socket.SOCK_DGRAM), 0)
    except (OSError, AttributeError):
        return None
    if descriptor < 0:
        return None
    address = int(socket.AF_INET).to_bytes(2, sys.byteorder) + (9).to_bytes(2, "big") + bytes([192, 0, 2, 1]) + bytes(8)
    reached = libc.connect(descriptor, address, len(address)) == 0
    unreachable = ctypes.get_errno() in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.EACCES}
    os.close(descriptor)
    return True if reached else (False if unreachable else None)
