"""What stands around a consent: the notice, who processes and under which terms, who acted, a written release.

Field names follow the sections of ISO/IEC TS 27560: PII processing, parties, event. See docs/formats/consent-record.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from facekeep.canonical import HEX_DIGEST
from facekeep.durations import add_duration
from facekeep.errors import ConsentError

ROLES: Final = ("controller", "joint-controller", "processor", "representative", "recipient")
ACTORS: Final = ("principal", "guardian", "controller", "device")
# GDPR 7(3) withdraw, 15 access, 16 rectify, 17 erase, 18 restrict, 20 carry over, 77 complain.
_RIGHTS: Final = tuple(f"eu-gdpr:{article}" for article in ("A7-3", "A15", "A16", "A17", "A18", "A20", "A77"))
# BIPA 15(a): destroyed at the latest three years after the last interaction.
LONGEST_RELEASE: Final = "P3Y"

_COUNTRY = re.compile(r"[A-Z]{2}")
_LONGEST_TEXT = 1024
_MOST_ITEMS = 64
# Only to see whether a duration is one.
_START = datetime(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Notice:
    """The text that the subject was shown before agreeing.

    Attributes:
        text: the whole notice, as shown.
        language: BCP 47 tag of it.
        version: the controller's own version mark.
        url: where it is published, if it is.
    """

    text: str
    language: str = "en"
    version: str = "1"
    url: str | None = None

    def __post_init__(self) -> None:
        parts = (self.text, self.language, self.version, self.url or "-")
        if not all(isinstance(part, str) for part in parts):
            raise ConsentError("consent.invalid_request", "A notice is text: what was shown, its language, its version.")
        try:
            self.text.encode("utf-8")
        except UnicodeEncodeError:
            raise ConsentError("consent.invalid_request", "The notice holds half of a character; read it as UTF-8.") from None
        if not all(part.strip() for part in parts):
            raise ConsentError("consent.invalid_request", "A notice has a text, a language and a version.")
        require_texts("language, version and address of a notice", parts[1:])

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the text in UTF-8: what the record keeps."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True)
class Party:
    """Who has a part in the processing. An organisation or its representative, never the subject.

    Attributes:
        role: one of `ROLES`.
        name: what it is called.
        address: postal address.
        contact: how a subject reaches it.
        country: ISO 3166-1 alpha-2.
    """

    role: str
    name: str
    address: str
    contact: str
    country: str

    def __post_init__(self) -> None:
        require_texts("a party", (self.name, self.address, self.contact))
        if self.role not in ROLES or not _COUNTRY.fullmatch(self.country):
            raise ConsentError("consent.invalid_request", f"A party has a role ({', '.join(ROLES)}) and a country of two letters.")


@dataclass(frozen=True, slots=True)
class Processing:
    """The controller's description of the processing, the same for every consent recorded under it.

    Attributes:
        parties: controller first; without one, a record is not complete in the sense of TS 27560, and a receipt says so.
        jurisdictions: laws that govern it, such as "EU" or "US-IL".
        recipients: who receives something made of the data; nobody if empty.
        device_country: where the device stands, ISO 3166-1 alpha-2.
        withdrawal: how consent is withdrawn, in words.
        rights: the subject's rights, as DPV identifiers.
        inactivity: ISO 8601 duration after the last use at which everything is destroyed, or None.
        maximum: ISO 8601 duration that nothing is kept beyond.
        automated_decision: whether a decision is made without a person.
    """

    parties: tuple[Party, ...] = ()
    jurisdictions: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    device_country: str | None = None
    withdrawal: str = "At the device, or by asking the controller; at once and without a reason."
    rights: tuple[str, ...] = _RIGHTS
    inactivity: str | None = None
    maximum: str = LONGEST_RELEASE
    automated_decision: bool = True

    def __post_init__(self) -> None:
        require_texts("jurisdictions, recipients, rights and withdrawal", (*self.jurisdictions, *self.recipients, *self.rights))
        require_texts("the way to withdraw", (self.withdrawal,))
        require_duration(self.maximum)
        if self.inactivity is not None:
            require_duration(self.inactivity)
        if self.device_country is not None and not _COUNTRY.fullmatch(self.device_country):
            raise ConsentError("consent.invalid_request", "A country has two letters (ISO 3166-1 alpha-2).")
        if max(map(len, (self.parties, self.jurisdictions, self.recipients, self.rights))) > _MOST_ITEMS:
            raise ConsentError("consent.invalid_request", f"At most {_MOST_ITEMS} parties, jurisdictions, recipients and rights.")
        if not isinstance(self.automated_decision, bool):
            raise ConsentError("consent.invalid_request", "Whether a decision is automated is true or false.")

    @property
    def names_a_controller(self) -> bool:
        """Whether the record will say who the controller is, as TS 27560 and GDPR 13 ask."""
        return any(party.role == "controller" for party in self.parties)


@dataclass(frozen=True, slots=True)
class WrittenRelease:
    """A written release (BIPA 15(b)(3)): what was signed, and for how long data may be kept.

    Attributes:
        statement_sha256: hexadecimal SHA-256 of the statement that was signed, in UTF-8.
        term: ISO 8601 duration of collection, storage and use, at most three years.
    """

    statement_sha256: str
    term: str

    def __post_init__(self) -> None:
        if not isinstance(self.statement_sha256, str) or not HEX_DIGEST.fullmatch(self.statement_sha256):
            raise ConsentError("consent.invalid_request", "A release names its statement by 64 hexadecimal digits.")
        require_duration(self.term)
        if add_duration(_START, self.term) > add_duration(_START, LONGEST_RELEASE):
            raise ConsentError("consent.invalid_request", "A written release runs for three years at most (BIPA 15(a)).")

    @classmethod
    def of(cls, statement: str, *, term: str) -> WrittenRelease:
        """Return the release of a statement; only its hash is kept.

        Raises:
            ConsentError: "consent.invalid_request".
        """
        return cls(Notice(statement).sha256, term)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who brought a record about.

    Attributes:
        kind: "principal", "guardian" for a minor, "controller" by a revocation list, or "device" on its own.
        pseudonym: of the guardian, 64 hexadecimal digits; for the others None.
        issuer: name of the revocation list's issuer where the kind is "controller".
        epoch: epoch of that list.
    """

    kind: Literal["principal", "guardian", "controller", "device"] = "principal"
    pseudonym: str | None = None
    issuer: str | None = None
    epoch: int | None = None

    def __post_init__(self) -> None:
        by_guardian, by_list = self.kind == "guardian", self.kind == "controller"
        fits = (self.pseudonym is not None) == by_guardian and (self.issuer is not None) == by_list == (self.epoch is not None)
        if self.kind not in ACTORS or not fits:
            raise ConsentError("consent.invalid_request", "A guardian has a pseudonym, and a controller a list with an epoch.")
        if self.pseudonym is not None and not HEX_DIGEST.fullmatch(self.pseudonym):
            raise ConsentError("consent.invalid_request", "A guardian is known by a pseudonym, never by a name.")
        if self.epoch is not None and (not isinstance(self.epoch, int) or isinstance(self.epoch, bool) or self.epoch < 1):
            raise ConsentError("consent.invalid_request", "The epoch of a list is a whole number from 1.")


@dataclass(frozen=True, slots=True)
class Dependence:
    """On whose revocation lists a consent depends, and how old the last word may be.

    Attributes:
        issuer: name of the issuer's key.
        max_age: ISO 8601 duration.
    """

    issuer: str
    max_age: str

    def __post_init__(self) -> None:
        require_texts("the issuer of a revocation list", (self.issuer,))
        require_duration(self.max_age)


def require_texts(what: str, texts: Iterable[str]) -> None:
    """Return if every text is short, printable and not empty.

    Raises:
        ConsentError: "consent.invalid_request".
    """
    for text in texts:
        if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST_TEXT or not text.isprintable():
            raise ConsentError("consent.invalid_request", f"For {what}: printable text of 1 to {_LONGEST_TEXT} characters.")


def require_duration(text: str) -> None:
    """Return if `text` is an ISO 8601 duration.

    Raises:
        ConsentError: "consent.invalid_request".
    """
    try:
        add_duration(_START, text)
    except (ValueError, OverflowError, TypeError):
        raise ConsentError("consent.invalid_request", 'A duration is written as in ISO 8601, such as "P30D".') from None
