"""The roster in the state directory: devices apply with a signed introduction, the authority admits them by hand.

An introduction (`facekeep federate join --out FILE`) is a device's answer to a challenge that is the same for everybody: 32 zero
bytes. Its signature shows that whoever holds the device key named the exchange key beside it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facekeep.errors import FacekeepError, FederationError
from facekeep.protocol.answers import NONCE_BYTES, Introduction
from facekeep.protocol.requests import Challenge
from facekeep.protocol.roster import Roster, RosterEntry, RosterHead
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import AUTHORITY, key_name, load_policy
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.state import FederationState

_LARGEST_INTRODUCTION: Final = 1_024


@dataclass(frozen=True, slots=True)
class SignedRoster:
    """The roster with its signed head.

    Attributes:
        roster: every entry.
        note: head, signed by the authority.
    """

    roster: Roster
    note: str


def joining_challenge(federation: str) -> Challenge:
    """Return the challenge that a device answers when it applies."""
    return Challenge(federation, bytes(NONCE_BYTES))


def read_roster(state: FederationState) -> SignedRoster:
    """Return the roster, checked against the head that the authority signed.

    Raises:
        ServerError: "server.invalid_configuration" if nobody was admitted yet, or head and entries disagree.
        TrustError, FederationError: if either cannot be read.
    """
    folder = state.root / "roster"
    if not (folder / "head").is_file():
        raise ServerError("server.invalid_configuration", "Nobody was admitted yet: run `facekeep-server federate admit`.")
    roster, note = Roster.parse(read_file(folder / "roster")), read_file(folder / "head").decode("utf-8", "replace")
    if RosterHead.open(note, state.settings.name, load_policy(state).authority_keys) != roster.head:
        raise ServerError("server.invalid_configuration", "The roster is not the one that the authority signed.")
    return SignedRoster(roster, note)


def admit(state: FederationState, introductions: Iterable[bytes], keys: Path | None = None) -> SignedRoster:
    """Add devices to the roster and sign its new head. A device that is in it already stays where it is.

    Raises:
        FederationError: "federation.malformed". TrustError: "trust.bad_signature". ServerError: "server.no_key".
    """
    challenge = joining_challenge(state.settings.name)
    folder = state.folder("roster")
    entries = list(Roster.parse(read_file(folder / "roster")).entries) if (folder / "roster").is_file() else []
    for data in introductions:
        entry = _open_introduction(data, challenge)
        if entry in entries:
            continue
        if any(entry.device_key == other.device_key for other in entries):
            raise FederationError("federation.not_a_member", "A device of this key is in the roster with another exchange key.")
        entries.append(entry)
    if not entries:
        raise ServerError("server.invalid_request", "A roster has at least one device.")
    roster = Roster(state.settings.name, entries)
    name = key_name(state.settings, AUTHORITY)
    note = roster.head.sign(name, load_signing_key(state.key_path(AUTHORITY, keys)))
    replace_file(folder / "roster", roster.to_bytes())
    # A crash between the two leaves a head that does not fit, which `read_roster` says; admitting again repairs it.
    replace_file(folder / "head", note.encode())
    return SignedRoster(roster, note)


def _open_introduction(data: bytes, challenge: Challenge) -> RosterEntry:
    try:
        if len(data) > _LARGEST_INTRODUCTION:
            raise ValueError
        found = Introduction.parse(base64.b64decode(data.strip(), validate=True))
    except (ValueError, binascii.Error, FacekeepError):
        raise FederationError("federation.malformed", "The file is not the introduction that `federate join` writes.") from None
    found.require_signed(challenge)
    return found.entry
