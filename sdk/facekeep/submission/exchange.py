"""One request and its bounded answer: TLS verified, no redirect, no proxy, an end to the time and to the bytes."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from facekeep.address import is_permitted_address
from facekeep.errors import LogError

_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a device tries.

    Attributes:
        attempts: how often a request is made before giving up, at least 1.
        first_seconds: pause after the first failure; doubled after each further one.
        longest_seconds: longest pause, also where the server asks for more.
        timeout_seconds: for one whole request and its answer.
        sleep: waits; the tests' does not.
    """

    attempts: int = 5
    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    timeout_seconds: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.first_seconds, self.longest_seconds) < 0 or self.timeout_seconds <= 0:
            raise ValueError("at least one attempt, no negative pause, and some time for each")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        headers: by lower-case name.
        body: whole, at most as long as asked for.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def require_address(url: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        LogError: "log.unreachable" unless it is https, or http on this machine, without query and fragment.
    """
    plain = url.rstrip("/")
    if not is_permitted_address(plain) or "?" in url or "#" in url:
        raise LogError("log.unreachable", "The address of a log server is https://, or http:// on this machine, without a query.")
    return plain


def exchange(method: str, url: str, headers: Mapping[str, str], content: bytes, *, limit: int, timeout_seconds: float) -> Answer:
    """Make one request to a permitted address and return the answer.

    Args:
        method: such as "POST".
        url: as `require_address` returned it, with a path and a query behind it.
        headers: to send besides those of the connection.
        content: body to send.
        limit: largest answer in bytes.
        timeout_seconds: for all of it.

    Raises:
        LogError: "log.unreachable" for no answer or one that is cut, "log.malformed" for one that is too large.
    """
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    ends = time.monotonic() + timeout_seconds
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, timeout_seconds)
    watch: threading.Timer | None = None
    try:
        connection.connect()
        # The timeout of a socket is one of each read: a server that sends a byte now and then would hold the device for ever.
        watch = threading.Timer(max(0.0, ends - time.monotonic()), _cut, [connection.sock])
        watch.daemon = True
        watch.start()
        more = {"User-Agent": "facekeep", "Accept-Encoding": "identity", "Connection": "close"}
        connection.request(method, target or "/", body=content, headers={**more, **headers})
        response = connection.getresponse()
        body = _read(response, limit)
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, body)
    except ssl.SSLCertVerificationError:
        raise LogError("log.unreachable", "The log server's certificate does not verify. Check the address.") from None
    except (OSError, http.client.HTTPException, ValueError):
        raise LogError("log.unreachable", "The log server gave no usable answer. Check the address and the network.") from None
    finally:
        if watch is not None:
            watch.cancel()
        connection.close()


def _connection(scheme: str, host: str, port: int | None, timeout: float) -> http.client.HTTPConnection:
    # No proxy from the environment and no redirect: nobody but the address that was named is asked.
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    body = bytearray()
    while len(body) <= limit:
        chunk = response.read(min(_CHUNK, limit + 1 - len(body)))
        if not chunk:
            break
        body += chunk
    if len(body) > limit:
        raise LogError("log.malformed", f"The log server's answer is larger than {limit} bytes.")
    # What is left of the length that was announced: a connection that broke off looks like an end otherwise.
    if response.length:
        raise http.client.IncompleteRead(bytes(body), response.length)
    return bytes(body)


def _cut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
