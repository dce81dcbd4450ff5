"""What a SQLite file holds beside its rows: free pages, free blocks, gaps, and the tails of overflow pages.

Source: https://www.sqlite.org/fileformat2.html. `secure_delete` promises zeros there; this reads whether they are. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"SQLite format 3\0"
_FILE_HEADER: Final = 100
# Remains of lists of cells, two bytes each, lie in the gaps of pages that were put in order, and of numbers among zeros; a row
# is longer than either and holds no four zeros in a row where it counts.
_REMAINS: Final = re.compile(rb"[^\0](?:\0{0,3}[^\0]){63,}")
_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX = 0x0D, 0x05, 0x0A, 0x02
_WAL_HEADER, _FRAME_HEADER = 32, 24
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)


@dataclass(frozen=True, slots=True)
class FreeBytes:
    """At least 64 bytes that no row accounts for, with no four zeros in a row.

    Attributes:
        offset: where in the file.
        data: the bytes.
        kind: "free page", "gap", "overflow tail" or "unreachable page".
    """

    offset: int
    data: bytes
    kind: str


class _Pages:
    def __init__(self, data: bytes) -> None:
        if not data.startswith(MAGIC) or len(data) < 512:
            raise ValueError("not a SQLite file")
        self.data = data
        size = int.from_bytes(data[16:18], "big")
        self.size = 65536 if size == 1 else size
        self.usable = self.size - data[20]
        if self.size < 512 or self.size & (self.size - 1) or self.usable < 480:
            raise ValueError("no page size")
        self.count = len(data) // self.size
        self.seen: set[int] = set()

    def take(self, number: int) -> tuple[int, bytes]:
        """Return the offset and content of a page that was not taken before."""
        if not 1 <= number <= self.count or number in self.seen:
            raise ValueError("a page is missing or counted twice")
        self.seen.add(number)
        start = (number - 1) * self.size
        return start, self.data[start : start + self.size]


def free_bytes(data: bytes) -> Iterator[FreeBytes]:
    """Yield every run of bytes of a database file that belongs to no row and is long enough to be of one.

    Raises:
        ValueError: if the file is not one that can be walked: it is damaged, or no SQLite database.
    """
    pages = _Pages(data)
    yield from _freelist(pages)
    # Each page and whether it belongs to the schema, whose rows name the roots of the tables.
    roots = [(1, True)]
    while roots:
        yield from _tree(pages, *roots.pop(), roots)
    for number in range(1, pages.count + 1):
        start = (number - 1) * pages.size
        # The page at 2^30 holds the locks and no content.
        if number not in pages.seen and not start <= 1 << 30 < start + pages.size:
            yield from _unless_zero(start, data[start : start + pages.size], "unreachable page")
    yield from _unless_zero(pages.count * pages.size, data[pages.count * pages.size :], "beyond the last page")


def frames(data: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Yield offset and content of the page images of a write-ahead log, and whether each belongs to what the log holds now.

    An image that does not was left behind when the log began anew at its front. Nothing is yielded for what is no log.
    """
    if len(data) < _WAL_HEADER or int.from_bytes(data[:4], "big") not in _WAL_MAGIC:
        return
    size = int.from_bytes(data[8:12], "big")
    if not 512 <= size <= 65536:
        return
    salts, is_current = data[16:24], True
    for start in range(_WAL_HEADER, len(data), size + _FRAME_HEADER):
        is_current = is_current and data[start + 8 : start + 16] == salts
        yield start + _FRAME_HEADER, data[start + _FRAME_HEADER : start + _FRAME_HEADER + size], is_current


def _freelist(pages: _Pages) -> Iterator[FreeBytes]:
    trunk = int.from_bytes(pages.data[32:36], "big")
    while trunk:
        start, page = pages.take(trunk)
        trunk, count = int.from_bytes(page[:4], "big"), int.from_bytes(page[4:8], "big")
        if 8 + 4 * count > pages.usable:
            raise ValueError("a list of free pages is too long")
        yield from _unless_zero(start + 8 + 4 * count, page[8 + 4 * count :], "free page")
        for item in range(8, 8 + 4 * count, 4):
            yield from _unless_zero(*pages.take(int.from_bytes(page[item : item + 4], "big")), "free page")


def _tree(pages: _Pages, number: int, is_schema: bool, roots: list[tuple[int, bool]]) -> Iterator[FreeBytes]:
    start, page = pages.take(number)
    head = _FILE_HEADER if number == 1 else 0
    kind = page[head]
    if kind not in (_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX):
        raise ValueError("a page is not part of a tree")
    is_inner = kind in (_INNER_TABLE, _INNER_INDEX)
    cells = int.from_bytes(page[head + 3 : head + 5], "big")
    body = head + (12 if is_inner else 8)
    used = [(0, body + 2 * cells)]
    if is_inner:
        roots.append((int.from_bytes(page[head + 8 : head + 12], "big"), is_schema))
    for item in range(body, body + 2 * cells, 2):
        at = int.from_bytes(page[item : item + 2], "big")
        end, child, overflow, left = _cell(pages, page, kind, at)
        used.append((at, end))
        roots += [(child, is_schema)] if child else []
        if is_schema and kind == _LEAF_TABLE:
            roots += [(root, False) for root in _roots_named(page, at)]
        yield from _overflow(pages, overflow, left)
    used += _free_block_headers(page, head, pages.usable)
    at = 0
    for begin, end in [*sorted(used), (pages.usable, pages.size)]:
        yield from _unless_zero(start + at, page[at : max(begin, at)], "gap")
        at = max(at, end)


def _cell(pages: _Pages, page: bytes, kind: int, at: int) -> tuple[int, int, int, int]:
    """Return the end of a cell, its child page, its first overflow page and the bytes that lie there."""
    child = 0
    if kind in (_INNER_TABLE, _INNER_INDEX):
        child, at = int.from_bytes(page[at : at + 4], "big"), at + 4
    if kind == _INNER_TABLE:
        return _varint(page, at)[1], child, 0, 0
    size, at = _varint(page, at)
    if kind == _LEAF_TABLE:
        at = _varint(page, at)[1]
    local = _local(size, pages.usable, kind == _LEAF_TABLE)
    if local == size:
        return max(at + size, at), child, 0, 0
    return at + local + 4, child, int.from_bytes(page[at + local : at + local + 4], "big"), size - local


def _local(size: int, usable: int, is_table: bool) -> int:
    """Return how many bytes of a payload lie in the cell."""
    largest = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    if size <= largest:
        return size
    least = (usable - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (usable - 4)
    return wanted if wanted <= largest else least


def _overflow(pages: _Pages, number: int, left: int) -> Iterator[FreeBytes]:
    while left > 0:
        start, page = pages.take(number)
        number, held = int.from_bytes(page[:4], "big"), min(left, pages.usable - 4)
        left -= held
        yield from _unless_zero(start + 4 + held, page[4 + held :], "overflow tail")


def _roots_named(page: bytes, at: int) -> list[int]:
    """Return the root page that a row of `sqlite_master` names, its fourth column; a view has none."""
    _, at = _varint(page, at)
    _, at = _varint(page, at)
    size, types = _varint(page, at)
    body, kinds = at + size, []
    while types < at + size:
        kind, types = _varint(page, types)
        kinds.append(kind)
    for kind in kinds[:3]:
        body += _width(kind)
    number = 1 if kinds[3] == 9 else int.from_bytes(page[body : body + _width(kinds[3])], "big")
    return [number] if number else []


def _width(kind: int) -> int:
    """Return the size of a column's value: https://www.sqlite.org/fileformat2.html#record_format."""
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind] if kind < 12 else (kind - 12) // 2


def _free_block_headers(page: bytes, head: int, usable: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    at = int.from_bytes(page[head + 1 : head + 3], "big")
    while at:
        # In order of their place, so that a circle is no way to hold the reader.
        if at + 4 > usable or (found and at <= found[-1][0]):
            raise ValueError("a list of free blocks is broken")
        found.append((at, at + 4))
        at = int.from_bytes(page[at : at + 2], "big")
    return found


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(9):
        if at + place >= len(page):
            raise ValueError("a number runs over the page")
        byte = page[at + place]
        if place == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            return value, at + place + 1
    raise AssertionError("a number has at most nine bytes")


def _unless_zero(offset: int, data: bytes, kind: str) -> Iterator[FreeBytes]:
    for found in _REMAINS.finditer(data):
        yield FreeBytes(offset + found.start(), found.group(), kind)
