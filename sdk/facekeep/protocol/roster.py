"""The roster: who is in the fleet, signed by its authority. Nobody else can add a device, so a server cannot invent a cohort.

A Merkle tree of RFC 6962 over the entries. Whoever shows entries shows an excerpt: the entries and the hashes that lead from them
to the signed root, each hash once. Format: docs/formats/roster.md.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from facekeep.errors import FederationError, TrustError
from facekeep.merkle import leaf_hash, node_hash
from facekeep.note import sign_note
from facekeep.protocol.codec import Reader, Writer
from facekeep.protocol.values import require_signed
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey

KEY_BYTES: Final = 32
ENTRY_VERSION: Final = 1
MOST_DEVICES: Final = 1 << 24
MOST_EXCERPT_BYTES: Final = 1 << 21
_ENTRY_BYTES: Final = 2 * KEY_BYTES
_KIND: Final = 0x70


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One device.

    Attributes:
        device_key: Ed25519 public key, 32 bytes: signs everything the device says in a round.
        exchange_key: X25519 public key, 32 bytes: shares are sealed to it.
    """

    device_key: bytes
    exchange_key: bytes

    def __post_init__(self) -> None:
        if len(self.device_key) != KEY_BYTES or len(self.exchange_key) != KEY_BYTES:
            raise ValueError("a roster entry has two keys of 32 bytes")

    def to_bytes(self) -> bytes:
        """Return the 65 bytes that are hashed as a leaf."""
        return bytes([ENTRY_VERSION]) + self.device_key + self.exchange_key


@dataclass(frozen=True, slots=True)
class RosterHead:
    """What the authority signs.

    Attributes:
        federation: name of the federation.
        size: number of entries.
        root: 32-byte RFC 6962 tree head over them.
    """

    federation: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """Return the text of the note."""
        return f"facekeep.roster/{self.federation}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, name: str, key: DeviceKey) -> str:
        """Return the signed note; `name` is that of the authority's note key."""
        return sign_note(self.to_text(), name, key)

    @classmethod
    def open(cls, note: str, federation: str, authority: Sequence[NoteKey]) -> RosterHead:
        """Return the head of a note that one of the authority's keys signed.

        Raises:
            TrustError: "trust.malformed", "trust.bad_signature".
        """
        text = require_signed(note, authority)
        try:
            origin, size, root, rest = text.split("\n")
            head = cls(federation, int(size), base64.b64decode(root, validate=True))
            if rest or head.to_text() != text or not 1 <= head.size <= MOST_DEVICES or len(head.root) != KEY_BYTES:
                raise ValueError(origin)
        except (ValueError, binascii.Error):
            raise TrustError("trust.malformed", "The note is not the head of this federation's roster.") from None
        return head


class Roster:
    """All entries, with the tree over them: what the authority makes and the server holds.

    Args:
        federation: name of the federation.
        entries: the devices; their place is their index. No key stands twice.

    Raises:
        ValueError: if there is no entry, or a key stands twice.
    """

    def __init__(self, federation: str, entries: Sequence[RosterEntry]) -> None:
        self.federation, self.entries = federation, tuple(entries)
        # One device under two entries would count twice in a cohort.
        if not 1 <= len(self.entries) <= MOST_DEVICES or len({entry.device_key for entry in self.entries}) != len(self.entries):
            raise ValueError("a roster has devices, each once")

    def __repr__(self) -> str:
        return f"Roster({self.federation}, {len(self.entries)} devices)"

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def levels(self) -> list[list[bytes]]:
        """Hashes of the tree, leaves first; a node without a right sibling stands for itself one level up."""
        levels = [[leaf_hash(entry.to_bytes()) for entry in self.entries]]
        while len(below := levels[-1]) > 1:
            pairs = [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
            levels.append([*pairs, below[-1]] if len(below) & 1 else pairs)
        return levels

    @cached_property
    def index_of(self) -> dict[bytes, int]:
        """Device key -> index."""
        return {entry.device_key: index for index, entry in enumerate(self.entries)}

    @property
    def head(self) -> RosterHead:
        """What the authority signs."""
        return RosterHead(self.federation, len(self.entries), self.levels[-1][0])

    def excerpt(self, indices: Sequence[int]) -> RosterExcerpt:
        """Return these entries with the hashes that prove them."""
        wanted = sorted(set(indices))
        hashes: list[bytes] = []

        def walk(level: int, node: int, inside: list[int]) -> None:
            if not inside:
                hashes.append(self.levels[level][node])
            elif level:
                middle = (2 * node + 1) << (level - 1)
                walk(level - 1, 2 * node, [index for index in inside if index < middle])
                if 2 * node + 1 < len(self.levels[level - 1]):
                    walk(level - 1, 2 * node + 1, [index for index in inside if index >= middle])

        walk(len(self.levels) - 1, 0, wanted)
        return RosterExcerpt(tuple((index, self.entries[index]) for index in wanted), tuple(hashes))

    def to_bytes(self) -> bytes:
        """Return the file that the authority hands to the server."""
        writer = Writer(_KIND).sized(self.federation.encode()).number(len(self.entries), 4)
        for entry in self.entries:
            writer.fixed(entry.device_key + entry.exchange_key, _ENTRY_BYTES)
        return writer.to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> Roster:
        """Return the roster of a file.

        Raises:
            FederationError: "federation.malformed".
        """
        reader = Reader(data, _KIND, 128 + MOST_DEVICES * _ENTRY_BYTES)
        federation, size = reader.text(64), reader.number(4, MOST_DEVICES)
        entries = [_read_entry(reader) for _ in range(size)]
        reader.end()
        try:
            return cls(federation, entries)
        except ValueError as error:
            raise FederationError("federation.malformed", f"The roster is not valid: {error}.") from None


@dataclass(frozen=True, slots=True)
class RosterExcerpt:
    """Some entries, and the proof that they are in the roster.

    Attributes:
        entries: index and entry, in order of the index.
        hashes: hashes of the subtrees without any of them, from left to right.
    """

    entries: tuple[tuple[int, RosterEntry], ...]
    hashes: tuple[bytes, ...]

    def require_in(self, head: RosterHead) -> dict[int, RosterEntry]:
        """Return the entries by index if they lead to the signed root.

        Raises:
            FederationError: "federation.not_a_member".
        """
        indices = [index for index, _ in self.entries]
        if not indices or indices != sorted(set(indices)) or indices[-1] >= head.size:
            raise _stranger("The excerpt's indices are not in order or lie outside the roster")
        found, hashes = dict(self.entries), iter(self.hashes)

        def walk(level: int, node: int, inside: list[int]) -> bytes:
            if not inside:
                return next(hashes)
            if not level:
                return leaf_hash(found[inside[0]].to_bytes())
            middle = (2 * node + 1) << (level - 1)
            left = walk(level - 1, 2 * node, [index for index in inside if index < middle])
            if middle >= head.size:
                return left
            return node_hash(left, walk(level - 1, 2 * node + 1, [index for index in inside if index >= middle]))

        try:
            root = walk((head.size - 1).bit_length(), 0, indices)
        except StopIteration:
            raise _stranger("The excerpt's proof is too short") from None
        # A server that shows keys of its own could sit in the place of every neighbour.
        if next(hashes, None) is not None or not hmac.compare_digest(root, head.root):
            raise _stranger("The excerpt does not lead to the root that the authority signed")
        return found

    def to_bytes(self) -> bytes:
        """Return the part of a message."""
        writer = Writer().number(len(self.entries), 4)
        for index, entry in self.entries:
            writer.number(index, 4).fixed(entry.device_key + entry.exchange_key, _ENTRY_BYTES)
        return writer.number(len(self.hashes), 4).fixed(b"".join(self.hashes), KEY_BYTES * len(self.hashes)).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> RosterExcerpt:
        """Return the excerpt of a part.

        Raises:
            FederationError: "federation.malformed".
        """
        reader = Reader(data, None, MOST_EXCERPT_BYTES)
        entries = tuple((reader.number(4, MOST_DEVICES), _read_entry(reader)) for _ in range(reader.number(4, 4096)))
        hashes = tuple(reader.fixed(KEY_BYTES) for _ in range(reader.number(4, MOST_EXCERPT_BYTES // KEY_BYTES)))
        reader.end()
        return cls(entries, hashes)


def _read_entry(reader: Reader) -> RosterEntry:
    return RosterEntry(reader.fixed(KEY_BYTES), reader.fixed(KEY_BYTES))


def _stranger(what: str) -> FederationError:
    return FederationError("federation.not_a_member", f"{what}.")
