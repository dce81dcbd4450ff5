"""What the tests of consents are set in: a device without models, a controller, an issuer, and chains of records."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from facekeep import Device, KeyFile
from facekeep.biometric import Template
from facekeep.clock import ManualClock
from facekeep.consent import (
    ConsentPolicy,
    ConsentRecord,
    ControllerKey,
    Lifecycle,
    Notice,
    Party,
    Processing,
    Purpose,
    SignedConsent,
    fold_chain,
    new_record,
    new_revocation_list,
    sign_record,
    sign_revocation_list,
)
from facekeep.errors import FacekeepError
from facekeep.identifiers import new_record_id
from facekeep.signing import DeviceKey
from tests.sdk.vault_scenes import CONTRACT, unit_vector

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = DeviceKey(b"\x01" * 32)
OTHER = DeviceKey(b"\x02" * 32)
CONTROLLER = ControllerKey("controller.example/consent", b"\x03" * 32)
ISSUER = ControllerKey("controller.example/revocations", b"\x04" * 32)
PRINCIPAL = "ab" * 32
NOTICE = Notice("We compare your face with the template you enrol.", "en", "2026-11", "https://controller.example/notice")
BOTH = frozenset({Purpose.ENROLMENT, Purpose.VERIFICATION})
ALL = BOTH | {Purpose.IDENTIFICATION}
PROCESSING = Processing(
    parties=(Party("controller", "Example & Sons <GmbH>", "1 High Street, Berlin", "privacy@controller.example", "DE"),),
    jurisdictions=("EU", "US-IL"),
    device_country="DE",
    inactivity="P1Y",
)
LISTS = ConsentPolicy(
    controller_key=CONTROLLER.verifier,
    revocation_issuer=ISSUER.verifier,
    revocation_max_age="P7D",
    processing=PROCESSING,
)


def record(state: Lifecycle = Lifecycle.GIVEN, chain: list[SignedConsent] | None = None, **changes: Any) -> ConsentRecord:
    """The next record of a chain, dated a minute after the one before."""
    chain = chain or []
    options: dict[str, Any] = {
        "record_id": new_record_id(),
        "principal_id": PRINCIPAL,
        "chain": chain,
        "state": state,
        "purposes": BOTH,
        "valid_from": NOW,
        "valid_until": NOW + timedelta(days=30),
        "notice": NOTICE,
        "recorded_at": NOW + timedelta(minutes=len(chain)),
        "processing": PROCESSING,
    }
    return new_record(**(options | changes))


def chain_of(*states: Lifecycle, key: DeviceKey = KEY, **changes: Any) -> list[SignedConsent]:
    chain: list[SignedConsent] = []
    for state in states:
        at = {"recorded_at": NOW + timedelta(days=30)} if state is Lifecycle.EXPIRED else {}
        if chain and ConsentRecord.parse(chain[-1].body).state is Lifecycle.EXPIRED:
            at = {"recorded_at": NOW + timedelta(days=31)}
        chain.append(sign_record(record(state, chain, **(changes | at)), key))
    return chain


def code_of(action: Callable[[], object]) -> str:
    """The stable code of the error that `action` ends in."""
    try:
        action()
    except FacekeepError as error:
        return error.code
    raise AssertionError("an error was expected")


class Setting:
    """A device in a folder, its clock, and the way to open it again."""

    def __init__(self, folder: Path, name: str = "home") -> None:
        self.folder, self.home = folder, folder / name
        self.clock = ManualClock(NOW)
        self.device = self.open()

    def open(self, **options: Any) -> Device:
        return Device.open(self.home, key=KeyFile(self.folder / f"{self.home.name}.key"), **({"clock": self.clock} | options))

    def grant(self, subject: str, purposes: frozenset[Purpose] = ALL, valid_for: str = "P90D", **options: Any) -> Any:
        return self.device.consents.grant(subject, purposes=purposes, valid_for=valid_for, notice=NOTICE, **options)

    def enrol(self, subject: str, seed: int = 1) -> None:
        """Store a template, as an enrolment would, without a camera."""
        with self.device._vault.transaction() as transaction:
            handle = transaction.find_subject(subject)
            assert handle is not None
            template = Template(unit_vector(seed), CONTRACT, new_record_id(), self.clock.now())
            transaction.add_template(handle, template, purpose=Purpose.ENROLMENT, consent_id=new_record_id())

    def principal(self, subject: str) -> str:
        return self.device.consents.records(subject)[-1].principal_id

    def templates(self) -> int:
        return sum(self.device.templates_by_contract().values())

    def searchable(self) -> int:
        """How many subjects a 1:N search would search now."""
        context = self.device._context
        return len(context.gallery.require_consenting(context.vault, context.clock).handles)

    def events(self) -> list[str]:
        import json

        return [json.loads(entry)["event"] for entry in self.device.trail_entries()]

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.home, self.folder / name))


def revocation_note(
    epoch: int,
    revoked: dict[str, datetime] | None = None,
    *,
    issued_at: datetime = NOW,
    days: int = 14,
    purposes: frozenset[Purpose] | None = None,
    issuer: ControllerKey = ISSUER,
    salt: bytes | None = None,
) -> bytes:
    """A signed list."""
    made = new_revocation_list(
        issuer=issuer.verifier.name,
        epoch=epoch,
        issued_at=issued_at,
        next_update=issued_at + timedelta(days=days),
        salt=salt or bytes([epoch % 256]) * 32,
        revoked=[(principal, at, purposes) for principal, at in (revoked or {}).items()],
    )
    return sign_revocation_list(made, issuer).encode()


def purposes_of(chain: list[SignedConsent]) -> frozenset[Purpose]:
    return fold_chain([ConsentRecord.parse(signed.body) for signed in chain]).purposes
