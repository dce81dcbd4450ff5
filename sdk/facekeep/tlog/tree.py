"""A log's tree as tiles: grown leaf by leaf, read back hash by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from facekeep.errors import LogError
from facekeep.merkle import EMPTY_ROOT, node_hash
from facekeep.tlog.tiles import WIDTH, Tile


class TileTree:
    """An append-only tree that keeps its right edge only: at most 255 hashes a level, whatever its size."""

    def __init__(self) -> None:
        self.size = 0
        self._rows: list[list[bytes]] = [[]]

    @classmethod
    def load(cls, size: int, read_tile: Callable[[Tile], bytes]) -> TileTree:
        """Return the tree of `size` entries from its partial tiles.

        Raises:
            LogError: "log.malformed" for a tile of another length.
        """
        tree = cls()
        tree.size, level = size, 0
        tree._rows = []
        while size >> 8 * level:
            index, width = divmod(size >> 8 * level, WIDTH)
            tree._rows.append(split_tile(read_tile(Tile(level, index, width)), width) if width else [])
            level += 1
        tree._rows = tree._rows or [[]]
        return tree

    def extend(self, leaves: Iterable[bytes]) -> list[tuple[Tile, bytes]]:
        """Append leaf hashes, and return each tile this filled with its bytes, a lower one before the one above it."""
        filled = []
        for leaf in leaves:
            self.size += 1
            level, value = 0, leaf
            while True:
                if level == len(self._rows):
                    self._rows.append([])
                row = self._rows[level]
                row.append(value)
                if len(row) < WIDTH:
                    break
                filled.append((Tile(level, (self.size >> 8 * (level + 1)) - 1), b"".join(row)))
                value = perfect_root(row)
                row.clear()
                level += 1
        return filled

    def partial_tiles(self) -> list[tuple[Tile, bytes]]:
        """Return the partial tiles of the tree as it stands."""
        rows = enumerate(self._rows)
        return [(Tile(level, self.size >> 8 * (level + 1), len(row)), b"".join(row)) for level, row in rows if row]

    def root(self) -> bytes:
        """Return the tree head."""
        value: bytes | None = None
        for row in self._rows:
            # The lowest row ends the tree; within a row the smallest complete subtree stands last.
            end = len(row)
            while end:
                count = end & -end
                part = perfect_root(row[end - count : end])
                value = part if value is None else node_hash(part, value)
                end -= count
        return EMPTY_ROOT if value is None else value


class TileHashes:
    """Hashes of complete subtrees out of tiles: a `HashReader` for proofs. Tiles read are kept for the life of the object.

    Args:
        size: entries of the tree whose tiles are read; narrower tiles are never asked for.
        read_tile: returns the bytes of a tile.
    """

    def __init__(self, size: int, read_tile: Callable[[Tile], bytes]) -> None:
        self._size = size
        self._read_tile = read_tile
        self._tiles: dict[Tile, list[bytes]] = {}

    def read(self, level: int, index: int) -> bytes:
        """Return the hash over the 2**level entries from index * 2**level on.

        Raises:
            LogError: "log.malformed" for a tile of another length, or where the tree has no such subtree.
        """
        tile_level, height = divmod(level, 8)
        start = index << height
        width = min(WIDTH, (self._size >> 8 * tile_level) - start // WIDTH * WIDTH)
        offset = start % WIDTH
        if offset + (1 << height) > width:
            raise LogError("log.malformed", "The tree is too short for the hash asked for.")
        tile = Tile(tile_level, start // WIDTH, width)
        row = self._tiles.get(tile)
        if row is None:
            row = self._tiles[tile] = split_tile(self._read_tile(tile), width)
        return perfect_root(row[offset : offset + (1 << height)])


def split_tile(data: bytes, width: int) -> list[bytes]:
    """Return the hashes of a tile.

    Raises:
        LogError: "log.malformed" if they are not exactly `width`.
    """
    if len(data) != 32 * width:
        raise LogError("log.malformed", f"A tile of {width} hashes has {32 * width} bytes; this one has {len(data)}.")
    return [data[place : place + 32] for place in range(0, len(data), 32)]


def perfect_root(row: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of hashes."""
    sha256 = hashlib.sha256
    while len(row) > 1:
        row = [sha256(b"\x01" + row[place] + row[place + 1]).digest() for place in range(0, len(row), 2)]
    return row[0]
