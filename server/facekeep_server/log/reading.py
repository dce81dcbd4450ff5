"""The log as others read it: checkpoint, tiles, bundles, proofs; only what is committed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from sqlalchemy import func, select

from facekeep.merkle import node_hash
from facekeep.note import Checkpoint
from facekeep.tlog import Tile, make_consistency, make_inclusion, pack_bundle
from facekeep.tlog.tiles import WIDTH
from facekeep.tlog.tree import split_tile
from facekeep_server.errors import ServerError
from facekeep_server.log.keys import LogKeys
from facekeep_server.log.transaction import load_tree, stored_size
from facekeep_server.store import Store
from facekeep_server.store.tables import Entry, LogHead, StoredTile, TreeHead

_KEPT_TILES = 512  # some 16 KiB each


class LogReader:
    """Reads what is committed; safe to use from several threads.

    Args:
        store: where.
        keys: sign the checkpoint.
        origin: name of the log.
    """

    def __init__(self, store: Store, keys: LogKeys, origin: str) -> None:
        self._store, self._keys, self._origin = store, keys, origin
        self._nodes: OrderedDict[Tile, list[bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def head(self) -> Checkpoint:
        """Return the head as committed."""
        with self._store.reading() as connection:
            size, root = stored_size(connection)
        return Checkpoint(self._origin, size, root)

    def verify_stored_head(self) -> None:
        """Return if the stored tiles lead to the stored head, and the log is the one expected.

        Raises:
            ServerError: "server.corrupt", "server.invalid_configuration", "server.schema".
        """
        with self._store.reading(snapshot=True) as connection:
            size, root = stored_size(connection)
            begun = connection.execute(select(LogHead.origin)).scalar_one()
            tree, last = load_tree(connection, size), connection.execute(select(func.max(Entry.number))).scalar_one()
        if begun != self._origin:
            raise ServerError("server.invalid_configuration", "log.origin is not the origin of the log in this database.")
        if tree.root() != root or (-1 if last is None else last) != size - 1:
            raise ServerError("server.corrupt", "The stored entries and tiles do not lead to the stored head of the log.")

    def checkpoint(self) -> tuple[Checkpoint, str]:
        """Return the head and its signed note. Signed here, after the commit: what is not stored is never signed."""
        head = self.head()
        return head, self._keys.sign(head)

    def tile(self, tile: Tile) -> bytes:
        """Return the hashes of a tile.

        Raises:
            ServerError: "proof.no_such_entry" where the log is not as long as that.
        """
        where = (StoredTile.level == tile.level, StoredTile.number == tile.index)
        with self._store.reading() as connection:
            held = connection.execute(select(StoredTile.hashes).where(*where)).scalar_one_or_none()
        data = bytes(held or b"")
        if len(data) < 32 * tile.width:
            raise ServerError("proof.no_such_entry", "The log has no such tile.")
        # A shorter tile is the beginning of a longer one.
        return data[: 32 * tile.width]

    def bundle(self, tile: Tile) -> bytes:
        """Return a bundle of entries.

        Raises:
            ServerError: "proof.no_such_entry".
        """
        first = tile.index * WIDTH
        with self._store.reading() as connection:
            where = (Entry.number >= first, Entry.number < first + tile.width)
            rows = connection.execute(select(Entry.body).where(*where).order_by(Entry.number)).scalars().all()
        if len(rows) != tile.width:
            raise ServerError("proof.no_such_entry", "The log has no such bundle.")
        return pack_bundle(bytes(row) for row in rows)

    def inclusion(self, number: int, size: int) -> tuple[bytes, ...]:
        """Return the audit path of an entry in the tree of `size` entries.

        Raises:
            ServerError: "proof.beyond_size".
        """
        if not 0 <= number < size <= self.head().size:
            raise ServerError("proof.beyond_size", "The entry has to lie in the tree, and the tree in the log.")
        return make_inclusion(_Hashes(self, size), number, size)

    def inclusions(self, numbers: Sequence[int], size: int) -> list[tuple[bytes, ...]]:
        """Return the audit paths of several entries in a tree that is known to be committed."""
        hashes = _Hashes(self, size)
        return [make_inclusion(hashes, number, size) for number in numbers]

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new` entries continues that of `old`.

        Raises:
            ServerError: "proof.beyond_size".
        """
        if not 0 <= old <= new <= self.head().size:
            raise ServerError("proof.beyond_size", "The first tree has to be the shorter one, and the second within the log.")
        return make_consistency(_Hashes(self, new), old, new)

    def heads(self, before: int | None, count: int) -> list[tuple[int, bytes, str]]:
        """Return size, root and time of up to `count` commits, the newest first, shorter than `before`."""
        query = select(TreeHead.size, TreeHead.root, TreeHead.committed_at).order_by(TreeHead.size.desc()).limit(count)
        if before is not None:
            query = query.where(TreeHead.size < before)
        with self._store.reading() as connection:
            return [(row.size, bytes(row.root), row.committed_at) for row in connection.execute(query)]

    def nodes(self, tile: Tile) -> list[bytes]:
        """Return the complete subtrees of a tile: their hashes, a byte string for each height from 0."""
        with self._lock:
            found = self._nodes.get(tile)
            if found is not None:
                self._nodes.move_to_end(tile)
                return found
        rows = [split_tile(self.tile(tile), tile.width)]
        while len(rows[-1]) > 1:
            row = rows[-1]
            rows.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
        nodes = [b"".join(row) for row in rows]
        with self._lock:
            self._nodes[tile] = nodes
            while len(self._nodes) > _KEPT_TILES:
                self._nodes.popitem(last=False)
        return nodes


class _Hashes:
    # A HashReader of one tree size.
    def __init__(self, reader: LogReader, size: int) -> None:
        self._reader, self._size = reader, size
        self._near: dict[tuple[int, int], list[bytes]] = {}

    def read(self, level: int, index: int) -> bytes:
        tile_level, height = divmod(level, 8)
        number, within = divmod(index << height, WIDTH)
        nodes = self._near.get((tile_level, number))
        if nodes is None:
            width = min(WIDTH, (self._size >> 8 * tile_level) - number * WIDTH)
            nodes = self._near[tile_level, number] = self._reader.nodes(Tile(tile_level, number, width))
        place = 32 * (within >> height)
        return nodes[height][place : place + 32]
