"""Which checkpoint to believe: signed by a log that is named, cosigned by enough of the witnesses that are named.

Source: https://c2sp.org/tlog-policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from facekeep.errors import LogError, TrustError
from facekeep.note import Checkpoint
from facekeep.tlog.cosignature import Cosignature, verify_cosignature, verify_signature_line
from facekeep.tlog.keys import NoteKey, NoteKind
from facekeep.tlog.notes import SignedNote
from facekeep.tlog.numbers import malformed, parse_decimal

_LARGEST_POLICY = 1 << 20
_MOST_LINES = 1_000


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that a policy accepts.

    Attributes:
        checkpoint: origin, size and root.
        note: the whole signed note, as it came.
        cosignatures: by the policy's name of the witness; only those that verified.
        unknown: number of signatures by keys the policy does not name; they count for nothing.
    """

    checkpoint: Checkpoint
    note: SignedNote
    cosignatures: Mapping[str, Cosignature]
    unknown: int

    @property
    def earliest(self) -> datetime | None:
        """The earliest time at which a witness saw this checkpoint, or None where none cosigned."""
        return min((item.time for item in self.cosignatures.values()), default=None)


@dataclass(frozen=True, slots=True)
class _Group:
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """A tlog-policy.

    Attributes:
        logs: keys of logs; several with one name are keys of one log in rotation.
        witnesses: name in the policy -> cosignature key.
        quorum: name of the witness or group that has to have witnessed, or "none".
        urls: name of a witness -> submission prefix, where the policy gives one.
    """

    logs: tuple[NoteKey, ...]
    witnesses: Mapping[str, NoteKey]
    quorum: str
    urls: Mapping[str, str] = field(default_factory=dict)
    _groups: Mapping[str, _Group] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes | str) -> TrustPolicy:
        """Return the policy of a tlog-policy file.

        Raises:
            LogError: "log.malformed", with the line.
        """
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        if len(raw) > _LARGEST_POLICY or any((byte < 0x20 and byte not in b"\t\n") or byte == 0x7F for byte in raw):
            raise malformed("A policy is lines of text without control characters, at most 1 MiB")
        # Octets are opaque to the format; "surrogateescape" keeps every one apart.
        lines = raw.decode("utf-8", "surrogateescape").split("\n")
        if len(lines) > _MOST_LINES:
            raise malformed(f"A policy has at most {_MOST_LINES} lines")
        reading = _Reading()
        for number, line in enumerate(lines, 1):
            words = line.replace("\t", " ").split(" ")
            words = [word for word in words if word]
            if words and not words[0].startswith("#"):
                try:
                    reading.take(words)
                except LogError as error:
                    raise LogError(error.code, f"Line {number} of the policy: {error.args[0]}") from None
        if reading.quorum is None:
            raise malformed("A policy has exactly one quorum line")
        return cls(tuple(reading.logs), reading.witnesses, reading.quorum, reading.urls, reading.groups)

    def verify(self, data: bytes | str) -> VerifiedCheckpoint:
        """Return the checkpoint of a signed note that this policy accepts.

        Every signature by a key the policy names has to verify, needed or not: a false one is a sign of tampering.

        Raises:
            LogError: "log.malformed", "log.bad_signature" or "log.no_quorum".
        """
        note = SignedNote.parse(data)
        try:
            checkpoint = Checkpoint.parse(note.text)
        except TrustError:
            raise malformed("A checkpoint is origin, size and root on three lines") from None
        if any(not line for line in note.text[:-1].split("\n")):
            raise malformed("A checkpoint has no empty line")
        signed, unknown = False, 0
        cosignatures: dict[str, Cosignature] = {}
        for line in note.signatures:
            log = next((key for key in self.logs if line.is_by(key) and key.name == checkpoint.origin), None)
            witness = next((name for name, key in self.witnesses.items() if line.is_by(key)), None)
            if log is not None:
                verify_signature_line(note.text, line, log)
                signed = True
            elif witness is not None:
                found = verify_cosignature(note.text, line, self.witnesses[witness])
                cosignatures[witness] = max(found, cosignatures.get(witness, found), key=lambda item: item.time)
            else:
                unknown += 1
        if not signed:
            raise LogError("log.bad_signature", "The checkpoint carries no signature by a log that the policy names.")
        if self.quorum != "none" and not self._has_witnessed(self.quorum, cosignatures.keys()):
            raise LogError(
                "log.no_quorum", f"{len(cosignatures)} of {len(self.witnesses)} witnesses cosigned; the quorum is not reached."
            )
        return VerifiedCheckpoint(checkpoint, note, cosignatures, unknown)

    def _has_witnessed(self, name: str, present: object) -> bool:
        group = self._groups.get(name)
        if group is None:
            return name in present  # type: ignore[operator]
        return sum(self._has_witnessed(member, present) for member in group.members) >= group.threshold


class _Reading:
    def __init__(self) -> None:
        self.logs: list[NoteKey] = []
        self.witnesses: dict[str, NoteKey] = {}
        self.urls: dict[str, str] = {}
        self.groups: dict[str, _Group] = {}
        self.quorum: str | None = None
        self._members: set[str] = set()

    def take(self, words: list[str]) -> None:
        kind, *rest = words
        if kind == "log" and len(rest) in (1, 2):
            self._log(NoteKey.parse(rest[0]))
        elif kind == "witness" and len(rest) in (2, 3):
            self._witness(rest[0], NoteKey.parse(rest[1]))
            if len(rest) == 3:
                self.urls[rest[0]] = rest[2]
        elif kind == "group" and len(rest) >= 3:
            self._group(rest[0], rest[1], rest[2:])
        elif kind == "quorum" and len(rest) == 1 and self.quorum is None:
            if rest[0] != "none" and rest[0] not in self.witnesses and rest[0] not in self.groups:
                raise malformed("the quorum is a witness or group of a line before it, or none")
            self.quorum = rest[0]
        else:
            raise malformed("a line is log, witness, group or, once, quorum")

    def _log(self, key: NoteKey) -> None:
        if key.kind is not NoteKind.ED25519 or any(key.public_key == other.public_key for other in self.logs):
            raise malformed("a log has an Ed25519 key of its own")
        self.logs.append(key)

    def _witness(self, name: str, key: NoteKey) -> None:
        self._new_name(name)
        # A key listed twice would count twice.
        if key.kind is not NoteKind.COSIGNATURE or any(key.public_key == other.public_key for other in self.witnesses.values()):
            raise malformed("a witness has a cosignature key of its own")
        self.witnesses[name] = key

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        self._new_name(name)
        for member in members:
            if (member not in self.witnesses and member not in self.groups) or member in self._members:
                raise malformed("a group has members of lines before it, each in one group only")
            self._members.add(member)
        count = {"any": 1, "all": len(members)}.get(threshold)
        count = parse_decimal(threshold, "A threshold") if count is None else count
        if not 1 <= count <= len(members):
            raise malformed("a threshold is at least 1 and at most the number of members")
        self.groups[name] = _Group(count, tuple(members))

    def _new_name(self, name: str) -> None:
        if name == "none" or name in self.witnesses or name in self.groups:
            raise malformed("witnesses and groups have different names, and none of them is none")
