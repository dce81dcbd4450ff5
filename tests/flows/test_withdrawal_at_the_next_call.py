"""From a withdrawal to the refusal is one call: nothing is captured, detected or embedded after it, here or by list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from facekeep import Device
from facekeep.clock import ManualClock
from facekeep.consent import ConsentPolicy
from facekeep.errors import ConsentError
from tests.flows.conftest import ALL, NOTICE, CountedModels, CountingCamera, enrol, picture
from tests.sdk.consent_setting import CONTROLLER, ISSUER, revocation_note

DEPENDENT = ConsentPolicy(revocation_issuer=ISSUER.verifier, revocation_max_age="P7D")


def refused(device: Device, models: CountedModels, subject: str = "alice") -> set[str]:
    """The codes that verify and identify are refused with; proves that neither camera nor models were touched."""
    models.counting.calls.clear()
    camera, codes = CountingCamera(picture(1, 2)), set()
    for action in (lambda: device.verify(subject, camera), lambda: device.identify(camera)):
        with pytest.raises(ConsentError) as caught:
            action()
        codes.add(caught.value.code)
    assert (models.counting.calls, camera.grants) == ([], [])
    return codes


def test_after_a_withdrawal_of_purposes(device: Device, models: CountedModels) -> None:
    enrol(device, "alice", 1)
    assert device.verify("alice", picture(1, 2)).is_match
    device.consents.withdraw("alice", purposes=["verification", "identification"])
    assert refused(device, models) == {"consent.withdrawn", "consent.none"}


def test_after_a_revocation_list(device: Device, models: CountedModels, clock: ManualClock) -> None:
    device.consents.set_policy(DEPENDENT)
    enrol(device, "alice", 1)
    assert device.identify(picture(1, 2)).outcome == "identified"
    principal = device.consents.records("alice")[0].principal_id
    device.revocations.import_list(revocation_note(1, {principal: clock.now()}, issued_at=clock.now()))
    assert refused(device, models) == {"consent.none"}
    assert not device._context.gallery.is_open, "opened templates were wiped"


def test_when_no_list_comes(device: Device, models: CountedModels, clock: ManualClock) -> None:
    device.consents.set_policy(DEPENDENT)
    enrol(device, "alice", 1)
    assert device.identify(picture(1, 2)).outcome == "identified"
    clock.advance(timedelta(days=7))
    assert refused(device, models) == {"consent.revocation_stale"}
    device.revocations.import_list(revocation_note(1, issued_at=clock.now()))
    assert device.identify(picture(1, 2)).outcome == "identified"
    assert device.verify("alice", picture(1, 2)).is_match


def test_a_stale_consent_leaves_the_others_searchable(device: Device, clock: ManualClock) -> None:
    enrol(device, "bob", 2)
    device.consents.set_policy(DEPENDENT)
    enrol(device, "alice", 1)
    assert device.identify(picture(1, 2)).gallery_size == 2
    clock.advance(timedelta(days=7))
    assert device.identify(picture(1, 2)).outcome == "unknown"
    assert device.identify(picture(2, 2)).outcome == "identified"


def test_when_the_controllers_signature_is_asked_for(
    device: Device, models: CountedModels, open_device: Callable[..., Device]
) -> None:
    enrol(device, "alice", 1)
    strict = ConsentPolicy(require_controller_signature=True, controller_key=CONTROLLER.verifier)
    other = open_device(mode="open")
    other.consents.set_policy(strict)
    assert refused(device, models) == {"consent.not_countersigned"}
    other.consents.countersign("alice", CONTROLLER)
    assert device.verify("alice", picture(1, 2)).is_match
    with pytest.raises(ConsentError, match="countersigned"):
        device.enrol("bob", picture(2, 1), device.consents.grant("bob", purposes=ALL, valid_for="P1D", notice=NOTICE))
