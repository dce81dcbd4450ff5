"""Tiles and entry bundles: the tree of a log as files. Source: https://c2sp.org/tlog-tiles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from facekeep.tlog.numbers import malformed

WIDTH: Final = 256
LARGEST_ENTRY_BYTES: Final = 65_535
LARGEST_BUNDLE_BYTES: Final = WIDTH * (LARGEST_ENTRY_BYTES + 2)
ENTRIES: Final = -1  # the level under which bundles go in `parse_tile_path`

_PATH = re.compile(r"tile/(entries|0|[1-9]\d?)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile of hashes, or a bundle of entries (level `ENTRIES`).

    Attributes:
        level: 0 holds leaf hashes; each hash above is the root of a full tile below.
        index: place within the level, from 0.
        width: hashes or entries in it, 1 to 256; fewer than 256 is a partial tile.
    """

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if not -1 <= self.level <= 63 or self.index < 0 or not 1 <= self.width <= WIDTH:
            raise malformed("A tile has a level of 0 to 63, an index and a width of 1 to 256")

    @property
    def path(self) -> str:
        """Path below the log's prefix."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_index_path(self.index)}{partial}"


def _index_path(index: int) -> str:
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.append(f"x{index % 1000:03d}")
    return "/".join(reversed(parts))


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Return the path of a bundle of entries."""
    return Tile(ENTRIES, index, width).path


def parse_tile_path(path: str) -> Tile:
    """Return the tile or bundle of a path.

    Raises:
        LogError: "log.malformed", also for any second spelling of a path.
    """
    match = _PATH.fullmatch(path) if len(path) < 100 else None
    if match is None:
        raise malformed("It is not the path of a tile")
    level, index, width = match.groups()
    digits = index.replace("x", "").replace("/", "")
    if width is not None and int(width) >= WIDTH:
        raise malformed("A partial tile has 1 to 255 hashes")
    tile = Tile(ENTRIES if level == "entries" else int(level), int(digits), int(width or WIDTH))
    if tile.path != path:
        raise malformed("It is not the path of a tile")
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Yield every tile of hashes of a tree of `size` entries, partial ones last in their level, lowest level first."""
    for level in range(64):
        hashes = size >> 8 * level
        if not hashes:
            return
        for index in range(hashes // WIDTH):
            yield Tile(level, index)
        if hashes % WIDTH:
            yield Tile(level, hashes // WIDTH, hashes % WIDTH)


def bundles_of(size: int) -> Iterator[Tile]:
    """Yield every bundle of a log of `size` entries, in order."""
    for index in range(size // WIDTH):
        yield Tile(ENTRIES, index)
    if size % WIDTH:
        yield Tile(ENTRIES, size // WIDTH, size % WIDTH)


def pack_bundle(entries: Iterable[bytes]) -> bytes:
    """Return the bundle: each entry behind its length in two bytes.

    Raises:
        LogError: "log.malformed" for an entry longer than 65,535 bytes.
    """
    parts = []
    for entry in entries:
        if len(entry) > LARGEST_ENTRY_BYTES:
            raise malformed(f"An entry has at most {LARGEST_ENTRY_BYTES} bytes")
        parts.append(len(entry).to_bytes(2, "big"))
        parts.append(entry)
    return b"".join(parts)


def unpack_bundle(data: bytes, width: int) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        LogError: "log.malformed" if they are not exactly `width`, or bytes are missing or left over.
    """
    entries: list[bytes] = []
    place, end = 0, len(data)
    while place + 2 <= end and len(entries) <= width:
        start = place + 2
        place = start + (data[place] << 8 | data[place + 1])
        entries.append(data[start:place])
    if place != end or len(entries) != width:
        raise malformed(f"A bundle holds {width} entries, each behind its length, and nothing else")
    return entries
