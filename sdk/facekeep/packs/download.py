"""Fetching one pinned file: the only place in Facekeep that opens a connection to the outside.

Everything the server says is doubted: the address it redirects to, the length it states, the range it resumes at. What
counts is the size and the SHA-256 of the manifest. A file that is not the pinned one leaves nothing behind; a transfer that
was cut leaves a part to resume.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

from facekeep.address import is_loopback, is_permitted_address
from facekeep.errors import ModelError
from facekeep.packs.files import Progress, put_in_place, typed_io
from facekeep.packs.manifest import PackFile

_CHUNK = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", re.ASCII)


def fetch(
    file: PackFile,
    destination: Path,
    part: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    timeout_seconds: float,
) -> None:
    """Download `file` to `destination`, through `part`, which survives a cut transfer.

    Raises:
        ModelError: "model.download_failed" (nothing at the address, cut, timed out), "model.hash_mismatch" (another file),
            "model.disk_full", "model.io".
    """
    if file.url is None or not is_permitted_address(file.url):
        raise ModelError("model.download_failed", f"{file.name} has no https address to fetch it from.")
    with typed_io(f"downloading {file.name}"):
        part.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part, file) as stream:
            resumed = stream.seek(0, os.SEEK_END) > 0
            try:
                _transfer(file, stream, progress, timeout_seconds)
                if resumed and not _is_pinned(stream, file):
                    # The part was bad (disk fault, another version of the file): the answer deserves one whole try.
                    stream.truncate(0)
                    _transfer(file, stream, progress, timeout_seconds)
                if not _is_pinned(stream, file):
                    raise ModelError(
                        "model.hash_mismatch",
                        f"The address of {file.name} answered with another file: its SHA-256 is not the pinned one. "
                        "Nothing was kept.",
                    )
                os.fsync(stream.fileno())
                destination.parent.mkdir(parents=True, exist_ok=True)
                put_in_place(part, destination)
            except (ModelError, OSError) as error:
                if not isinstance(error, _CutError) or stream.seek(0, os.SEEK_END) == 0:
                    part.unlink(missing_ok=True)
                raise


class _CutError(ModelError):
    """The transfer stopped before its end; the part is worth keeping."""


def _locked(part: Path, file: PackFile) -> BinaryIO:
    handle = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise _CutError("model.download_failed", f"Another process is downloading {file.name}. Wait for it.") from error
    return os.fdopen(handle, "r+b")


def _is_pinned(stream: BinaryIO, file: PackFile) -> bool:
    """Whether what is on the disk, read back, is the pinned file."""
    stream.flush()
    stream.seek(0)
    digest = hashlib.sha256()
    size = 0
    while piece := stream.read(1 << 20):
        size += len(piece)
        digest.update(piece)
    return size == file.size_bytes and digest.hexdigest() == file.sha256


def _transfer(file: PackFile, stream: BinaryIO, progress: Callable[[Progress], None] | None, timeout_seconds: float) -> None:
    """Append to `stream` until it has the pinned size."""
    received = stream.seek(0, os.SEEK_END)
    if received >= file.size_bytes:
        if received > file.size_bytes:
            stream.truncate(0)
            received = 0
        else:
            return
    response, offset = _ask(file, received, timeout_seconds)
    with response:
        if offset != received:
            stream.truncate(0)
            stream.seek(0)
            received = 0
        stated = response.headers.get("Content-Length", "")
        if stated.isascii() and stated.isdigit() and received + int(stated[:18]) != file.size_bytes:
            raise ModelError(
                "model.hash_mismatch",
                f"The address of {file.name} offers {received + int(stated[:18])} bytes where {file.size_bytes} are pinned. "
                "Nothing was kept.",
            )
        while received < file.size_bytes:
            piece = _read(response, file, received, min(_CHUNK, file.size_bytes - received))
            stream.write(piece)
            received += len(piece)
            if progress is not None:
                progress(Progress(file.name, received, file.size_bytes))
        if _read_extra(response):
            raise ModelError(
                "model.hash_mismatch", f"The address of {file.name} sends more than the pinned size. Nothing was kept."
            )
    stream.flush()


def _ask(file: PackFile, received: int, timeout_seconds: float) -> tuple[Any, int]:
    """Return the answer, and the offset at which its body begins."""
    address = file.url or ""
    # Identity: a compressed body would neither have the pinned size nor resume. No cookie, no version, no machine name.
    headers = {"Accept-Encoding": "identity", "User-Agent": "facekeep", "Accept": "application/octet-stream, */*"}
    if received:
        headers["Range"] = f"bytes={received}-"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 -- the scheme was checked by the caller
    try:
        response = _opener(address).open(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and received:
            return _ask(file, 0, timeout_seconds)
        raise _refused(file, f"answers {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Nothing arrived, so the part of an earlier attempt is as good as it was.
        message = f"{file.name} could not be fetched: {_reason(error)}. Try again later, or import the file."
        raise _CutError("model.download_failed", message) from error
    if response.status == http.client.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != received or match[2] not in {"*", str(file.size_bytes)}:
            response.close()
            raise ModelError("model.download_failed", f"The server resumed {file.name} at another place. Run it again.")
        return response, received
    if response.status != http.client.OK:
        response.close()
        raise _refused(file, f"answers {response.status}")
    return response, 0


def _read(response: Any, file: PackFile, received: int, size: int) -> bytes:
    try:
        piece: bytes = response.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise _cut(file, received, _reason(error)) from error
    if not piece:
        raise _cut(file, received, "the connection ended")
    return piece


def _read_extra(response: Any) -> bytes:
    try:
        extra: bytes = response.read(1)
    except (OSError, http.client.HTTPException):
        return b""
    return extra


def _refused(file: PackFile, what: str) -> ModelError:
    return ModelError("model.download_failed", f"The address of {file.name} {what}. Import the file instead.")


def _cut(file: PackFile, received: int, reason: str) -> _CutError:
    return _CutError(
        "model.download_failed",
        f"The download of {file.name} stopped at {received} of {file.size_bytes} bytes: {reason}. Run it again to resume.",
    )


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return "it timed out"
    return (getattr(inner, "strerror", None) or str(inner) or type(inner).__name__)[:200]


class _CheckedRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only; from this very machine also to itself."""

    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        # Downgrade: a redirect to http would let anyone on the way choose; one to file: would read the disk.
        stays_here = is_loopback(req.full_url) and is_permitted_address(newurl) and is_loopback(newurl)
        if not (is_permitted_address(newurl) and newurl.startswith("https:")) and not stays_here:
            fp.close()
            raise urllib.error.URLError("the server redirects to an address that is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Return an opener that knows http and https and nothing else: the usual one also opens file:, ftp: and data:."""
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _CheckedRedirect(),
    ]
    if not is_loopback(address):
        handlers.append(urllib.request.ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener
