"""Signed revocation lists with epochs: how a withdrawal reaches a device that is not asked, and works there offline.

A list is whole, not a difference: it names everyone whose withdrawal the issuer still tells devices of. It names them by
commitments under a salt of its own, so that two lists cannot be linked and nobody without the pseudonym can look one up.
Format: docs/formats/revocation-list.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from facekeep.canonical import HEX_DIGEST, parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent.controller import ControllerKey
from facekeep.consent.gate import CLOCK_TOLERANCE
from facekeep.consent.purposes import Purpose
from facekeep.consent.verifier import VerifierKey
from facekeep.durations import add_duration
from facekeep.errors import ConsentError, TrustError
from facekeep.note import open_note, sign_note

HEADER: Final = "facekeep.revocation-list/v1"
SALT_BYTES: Final = 32
LARGEST_LIST_BYTES: Final = 16 * 1024 * 1024
_LARGEST_EPOCH = 2**53 - 1
_LABEL = b"facekeep revocation v1\n"
_ALL = "*"


@dataclass(frozen=True, slots=True)
class RevokedEntry:
    """One subject of a list.

    Attributes:
        commitment: 64 hexadecimal digits, see `commitment_of`.
        at: when consent was withdrawn: every record made up to then is revoked, a later one is not.
        purposes: those withdrawn; None for all.
    """

    commitment: str
    at: datetime
    purposes: frozenset[Purpose] | None = None

    def covers(self, recorded_at: datetime) -> bool:
        """Return whether a record made then is revoked; clocks differ a little, so one made just after is as well."""
        return recorded_at <= self.at + CLOCK_TOLERANCE

    def to_line(self) -> str:
        """Return the line of the list."""
        named = _ALL if self.purposes is None else ",".join(sorted(self.purposes))
        return f"{self.commitment} {to_rfc3339(self.at)} {named}"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What an issuer says at one epoch.

    Attributes:
        issuer: name of its key.
        epoch: whole number from 1; a higher one replaces a lower one.
        issued_at: when it was made.
        next_update: when the next is due; from then on this one counts for nothing.
        salt: 32 bytes, fresh for each list.
        entries: in order of their commitments, each once.
    """

    issuer: str
    epoch: int
    issued_at: datetime
    next_update: datetime
    salt: bytes = field(repr=False)
    entries: tuple[RevokedEntry, ...] = field(repr=False)

    def __post_init__(self) -> None:
        commitments = [entry.commitment for entry in self.entries]
        if not 1 <= self.epoch <= _LARGEST_EPOCH or len(self.salt) != SALT_BYTES or self.next_update <= self.issued_at:
            raise ValueError("a list has an epoch from 1, a salt of 32 bytes, and a next update after it was issued")
        if commitments != sorted(set(commitments)) or not all(map(HEX_DIGEST.fullmatch, commitments)):
            raise ValueError("entries are sorted by commitment, each once")
        if any(entry.at > self.issued_at for entry in self.entries):
            raise ValueError("a withdrawal lies before the list that tells of it")

    def to_text(self) -> str:
        """Return the text of the signed note."""
        head = (
            HEADER,
            self.issuer,
            f"epoch {self.epoch}",
            f"issued {to_rfc3339(self.issued_at)}",
            f"next {to_rfc3339(self.next_update)}",
            f"salt {self.salt.hex()}",
            f"entries {len(self.entries)}",
        )
        return "\n".join((*head, *(entry.to_line() for entry in self.entries))) + "\n"

    @property
    def head(self) -> ListHead:
        """What a device remembers of the list."""
        digest = hashlib.sha256(self.to_text().encode()).hexdigest()
        return ListHead(self.issuer, self.epoch, self.issued_at, self.next_update, len(self.entries), digest)

    def entry_for(self, principal_id: str) -> RevokedEntry | None:
        """Return the entry that names this principal, or None. To ask for many, use `index`."""
        return self.index().get(commitment_of(self.salt, principal_id))

    def index(self) -> Mapping[str, RevokedEntry]:
        """Return commitment -> entry."""
        return {entry.commitment: entry for entry in self.entries}


@dataclass(frozen=True, slots=True)
class ListHead:
    """The newest list seen, without its entries.

    Attributes:
        issuer: name of the issuer's key.
        epoch: its epoch.
        issued_at: when it was made.
        next_update: when the next is due.
        entries: how many subjects it names.
        sha256: hexadecimal hash of its text; another list of the same epoch is a fork.
    """

    issuer: str
    epoch: int
    issued_at: datetime
    next_update: datetime
    entries: int
    sha256: str

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that a vault keeps."""
        return to_canonical(
            {
                "issuer": self.issuer,
                "epoch": self.epoch,
                "issued_at": to_rfc3339(self.issued_at),
                "next_update": to_rfc3339(self.next_update),
                "entries": self.entries,
                "sha256": self.sha256,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ListHead:
        """Return the head of canonical bytes.

        Raises:
            ConsentError: "consent.corrupt".
        """
        try:
            fields: dict[str, Any] = parse_canonical(data)
            head = cls(
                fields["issuer"],
                fields["epoch"],
                parse_rfc3339(fields["issued_at"]),
                parse_rfc3339(fields["next_update"]),
                fields["entries"],
                fields["sha256"],
            )
            if head.to_bytes() != data:
                raise ValueError("unknown fields")
            return head
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConsentError("consent.corrupt", "What the vault remembers of a revocation list is not readable.") from None


def commitment_of(salt: bytes, principal_id: str) -> str:
    """Return how a list with this salt names a principal: HMAC-SHA256 under the salt, 64 hexadecimal digits."""
    return hmac.digest(salt, _LABEL + principal_id.encode("ascii"), hashlib.sha256).hex()


def new_revocation_list(
    *,
    issuer: str,
    epoch: int,
    issued_at: datetime,
    next_update: datetime,
    salt: bytes,
    revoked: Iterable[tuple[str, datetime, frozenset[Purpose] | None]],
) -> RevocationList:
    """Return a list that names principals.

    Args:
        issuer: name of the key that will sign it.
        epoch: one more than that of the list before.
        issued_at: now.
        next_update: when the next will be there at the latest.
        salt: 32 fresh random bytes.
        revoked: principal id as in consent records, instant of the withdrawal, purposes or None for all.

    Raises:
        ConsentError: "consent.invalid_request" if that is no list.
    """
    try:
        entries = (RevokedEntry(commitment_of(salt, principal), at, purposes) for principal, at, purposes in revoked)
        ordered = tuple(sorted(entries, key=lambda entry: entry.commitment))
        return RevocationList(issuer, epoch, issued_at, next_update, salt, ordered)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConsentError("consent.invalid_request", f"That is no revocation list: {error}.") from None


def sign_revocation_list(revocations: RevocationList, key: ControllerKey) -> str:
    """Return the list as a signed note.

    Raises:
        ConsentError: "consent.invalid_request" if the list names another issuer.
    """
    if revocations.issuer != key.verifier.name:
        raise ConsentError("consent.invalid_request", "A revocation list is signed by the issuer that it names.")
    return sign_note(revocations.to_text(), key.verifier.name, key.key)


def open_revocation_list(data: bytes, issuer: VerifierKey) -> RevocationList:
    """Return the list of a signed note after checking its signature and every line.

    Raises:
        TrustError: "trust.malformed" or "trust.bad_signature".
    """
    if len(data) > LARGEST_LIST_BYTES:
        raise TrustError("trust.malformed", f"A revocation list has at most {LARGEST_LIST_BYTES} bytes; this file is longer.")
    try:
        text = open_note(data.decode("utf-8"), issuer.name, issuer.public_key)
        found = _parse_text(text)
        # One spelling: a list that reads back to other bytes could mean two things.
        if found.to_text() != text or found.issuer != issuer.name:
            raise ValueError("not in canonical form")
    except (ValueError, IndexError):
        raise TrustError("trust.malformed", "The file is not a revocation list of this issuer.") from None
    return found


def require_newer(stored: ListHead | None, found: ListHead) -> bool:
    """Return whether `found` is newer than what is stored; False if it is the very same.

    Raises:
        ConsentError: "consent.revocation_older", or "consent.revocation_fork" for another list of the same epoch.
    """
    if stored is None or found.epoch > stored.epoch:
        return True
    # Rollback: an older list does not know of the latest withdrawals.
    if found.epoch < stored.epoch:
        raise ConsentError(
            "consent.revocation_older",
            f"The revocation list is of epoch {found.epoch}; epoch {stored.epoch} has been seen. Fetch the newest one.",
        )
    if found != stored:
        raise ConsentError(
            "consent.revocation_fork",
            f"The issuer signed two different revocation lists of epoch {found.epoch}. Keep both files: they prove it.",
        )
    return False


def good_until(recorded_at: datetime, max_age: str, head: ListHead | None) -> datetime:
    """Return the first instant at which a consent that depends on lists may not be relied on any more.

    The last word on a consent is the record itself, or a later list that does not withdraw it. It holds for `max_age`, and
    that of a list no longer than until its next update is due.

    Args:
        recorded_at: when the record in force was made.
        max_age: ISO 8601 duration.
        head: the newest list of the issuer, or None.
    """
    by_record = _later(recorded_at, max_age)
    if head is None:
        return by_record
    return max(by_record, min(head.next_update, _later(head.issued_at, max_age)))


def _later(instant: datetime, duration: str) -> datetime:
    try:
        return add_duration(instant, duration)
    except ValueError:
        # Past the year 9999.
        return datetime.max.replace(tzinfo=instant.tzinfo)


def _parse_text(text: str) -> RevocationList:
    lines = text.removesuffix("\n").split("\n")
    if lines[0] != HEADER:
        raise ValueError("another kind of note")
    named = [line.split(" ", 1) for line in lines[2:7]]
    if [name for name, _ in named] != ["epoch", "issued", "next", "salt", "entries"]:
        raise ValueError("the head of a list has five lines with names")
    epoch, issued, due, salt, count = (value for _, value in named)
    if len(lines) != 7 + _whole(count):
        raise ValueError("another number of entries than the list says")
    entries = tuple(_parse_line(line) for line in lines[7:])
    return RevocationList(lines[1], _whole(epoch), parse_rfc3339(issued), parse_rfc3339(due), bytes.fromhex(salt), entries)


def _parse_line(line: str) -> RevokedEntry:
    commitment, at, named = line.split(" ")
    purposes = None if named == _ALL else frozenset(Purpose(item) for item in named.split(","))
    return RevokedEntry(commitment, parse_rfc3339(at), purposes)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise ValueError("a whole number was expected")
    return int(text)
