"""A log at its address: fetched file by file, from that address and no other, only when asked to."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO, Any, Final

from facekeep.errors import LogError
from facekeep.logfiles.source import CHECKPOINT, largest_bytes, largest_checkpoint, missing
from facekeep.packs.address import is_permitted_address
from facekeep.tlog.tiles import ENTRIES, WIDTH, Tile, pack_bundle, unpack_bundle

_TIMEOUT_SECONDS: Final = 30.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class LogAddress:
    """A log served at `url`.

    Args:
        url: prefix of the log, https (http on this machine only).
        timeout_seconds: for each answer.

    Raises:
        LogError: "log.unreachable" if the address is not such.
    """

    def __init__(self, url: str, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._url = url.rstrip("/")
        if not is_permitted_address(self._url) or "?" in url or "#" in url:
            raise LogError("log.unreachable", "The address of a log is https://, or http:// on this machine, without a query.")
        self._timeout = timeout_seconds
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

    def _fetch(self, path: str, limit: int) -> bytes:
        # Permitted schemes only were let in above. Nothing is sent that names who asks.
        request = urllib.request.Request(f"{self._url}/{path}", headers={"User-Agent": "facekeep", "Accept-Encoding": "identity"})  # noqa: S310
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return _read_limited(answer, limit, path)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (404, 410):
                    raise missing(path) from None
                raise LogError("log.unreachable", f"The log answered {error.code} for {path}.") from None
        except (OSError, http.client.HTTPException, ValueError):
            raise LogError("log.unreachable", f"The log gave no answer for {path}. Check the address and the network.") from None


def _read_limited(answer: IO[bytes], limit: int, path: str) -> bytes:
    data = answer.read(limit + 1)
    if len(data) > limit:
        raise LogError("log.malformed", f"The log's answer for {path} is larger than {limit} bytes.")
    return data
