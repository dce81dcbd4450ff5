"""A log at its address: fetched file by file, from that address and no other, only when asked to."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

from facekeep.address import is_permitted_address
from facekeep.errors import LogError
from facekeep.logfiles.source import CHECKPOINT, largest_bytes, largest_checkpoint, missing
from facekeep.tlog.tiles import ENTRIES, WIDTH, Tile, pack_bundle, unpack_bundle

_TIMEOUT_SECONDS: Final = 30.0
# A log of a million entries is eight thousand files: a server that says how fast they may be fetched is obeyed.
_ATTEMPTS: Final = 8
_LONGEST_PAUSE_SECONDS: Final = 30.0
_AGAIN: Final = frozenset({429, 503})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class LogAddress:
    """A log served at `url`.

    Args:
        url: prefix of the log, https (http on this machine only).
        timeout_seconds: for each answer.
        token: of an auditor, for a server that gives entries to nobody else; sent to this address only.
        sleep: waits; the tests' does not.

    Raises:
        LogError: "log.unreachable" if the address is not such, "log.malformed" if the token cannot be sent.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        token: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        if not is_permitted_address(self._url) or "?" in url or "#" in url:
            raise LogError("log.unreachable", "The address of a log is https://, or http:// on this machine, without a query.")
        if token is not None and (not token.isascii() or not token.isprintable() or " " in token or not token):
            raise LogError("log.malformed", "A token is one word of visible characters.")
        self._timeout, self._sleep = timeout_seconds, sleep
        # Nothing is sent that names who asks, but what the server asks for.
        self._headers = {"User-Agent": "facekeep", "Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        # A redirect would ask an address that nobody named.
        self._opener = urllib.request.build_opener(_NoRedirects())

    def read_checkpoint(self) -> bytes:
        """Return the signed checkpoint.

        Raises:
            LogError: "log.incomplete" or "log.unreachable".
        """
        return self._fetch(CHECKPOINT, largest_checkpoint())

    def read_tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile or bundle; a partial one that was replaced by its full one is cut from that.

        Raises:
            LogError: "log.incomplete", "log.malformed" or "log.unreachable".
        """
        try:
            return self._fetch(tile.path, largest_bytes(tile))
        except LogError as error:
            if error.code != "log.incomplete" or tile.width == WIDTH:
                raise
        full = Tile(tile.level, tile.index)
        data = self._fetch(full.path, largest_bytes(full))
        return pack_bundle(unpack_bundle(data, WIDTH)[: tile.width]) if tile.level == ENTRIES else data[: 32 * tile.width]

    def other_files(self, size: int) -> Iterator[str]:
        """Yield nothing: an address cannot be listed."""
        del size
        yield from ()

    def __repr__(self) -> str:
        return f"LogAddress({self._url!r})"

    def _fetch(self, path: str, limit: int) -> bytes:
        # Permitted schemes only were let in above.
        request = urllib.request.Request(f"{self._url}/{path}", headers=self._headers)  # noqa: S310
        for left in reversed(range(_ATTEMPTS)):
            try:
                with self._opener.open(request, timeout=self._timeout) as answer:
                    return _read_limited(answer, limit, path)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in (404, 410):
                        raise missing(path) from None
                    if error.code in (401, 403):
                        raise LogError(
                            "log.unreachable", f"The log gives {path} only to auditors: name a token that it accepts, --token-file."
                        ) from None
                    if error.code not in _AGAIN or not left:
                        raise LogError("log.unreachable", f"The log answered {error.code} for {path}.") from None
                    pause = _pause(error.headers.get("Retry-After"))
                self._sleep(pause)
            except (OSError, http.client.HTTPException, ValueError):
                raise LogError(
                    "log.unreachable", f"The log gave no answer for {path}. Check the address and the network."
                ) from None
        raise AssertionError("the last attempt returns or raises")


def _pause(asked: str | None) -> float:
    seconds = float(asked) if asked is not None and asked.isascii() and asked.isdigit() and len(asked) < 6 else 1.0
    return min(seconds, _LONGEST_PAUSE_SECONDS)


def _read_limited(answer: IO[bytes], limit: int, path: str) -> bytes:
    data = answer.read(limit + 1)
    if len(data) > limit:
        raise LogError("log.malformed", f"The log's answer for {path} is larger than {limit} bytes.")
    return data
