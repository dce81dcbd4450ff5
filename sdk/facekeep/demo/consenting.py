"""The parts of the demo around recognition: refusals, consent, withdrawal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from facekeep.consent import ConsentGrant, Notice, Purpose
from facekeep.demo.album import Album, Person, Role
from facekeep.demo.record import Grant, Refusal, Withdrawal
from facekeep.demo.stage import Stage, Stopwatch
from facekeep.errors import FacekeepError

TERM: Final = "P30D"
NOTICE: Final = Notice(
    "This device wants to recognise you by your face. If you agree, it keeps a sealed template of your face, on this device "
    "only, for 30 days, and uses it for what you tick: to check that you are who you say (verification), or to find who you "
    "are (identification). No picture is kept. Nothing leaves the device. You can say no, and you can withdraw at any time: "
    "the template is then destroyed at once.",
    version="demo-1",
)
PURPOSES: Final[dict[Role, tuple[Purpose, ...]]] = {
    Role.EVERYTHING: (Purpose.ENROLMENT, Purpose.VERIFICATION, Purpose.IDENTIFICATION),
    Role.VERIFICATION_ONLY: (Purpose.ENROLMENT, Purpose.VERIFICATION),
}
NOT_REFUSED: Final = "not refused"
_NOBODY: Final = "somebody else"


def attempt(stage: Stage, call: str, run: Callable[[], object]) -> Refusal:
    """Return how a call that has to be refused ended, and what was asked of camera and models meanwhile."""
    before = stage.meter.reading
    try:
        run()
    except FacekeepError as error:
        return Refusal(call, error.code, str(error.args[0]), stage.meter.reading.since(before))
    return Refusal(call, NOT_REFUSED, "", stage.meter.reading.since(before))


def try_without_consent(stage: Stage, album: Album) -> tuple[Refusal, ...]:
    """Return what the device answers before anybody was asked."""
    person = _first(album)
    camera = stage.shutter(person.pictures[0])
    return (
        attempt(stage, f"device.verify({person.label!r}, camera)", lambda: stage.device.verify(person.label, camera)),
        attempt(stage, "device.identify(camera)", lambda: stage.device.identify(camera)),
    )


def ask_everyone(stage: Stage, album: Album) -> tuple[dict[str, ConsentGrant], tuple[Grant, ...]]:
    """Return the grants by subject; those who are not enrolled are asked too, and say no. Nobody speaks for a stranger."""
    grants: dict[str, ConsentGrant] = {}
    recorded: list[Grant] = []
    for person in album.people:
        if person.role is Role.STRANGER:
            continue
        purposes = PURPOSES.get(person.role)
        if purposes is None:
            stage.device.consents.refuse(person.label, purposes=PURPOSES[Role.EVERYTHING], notice=NOTICE)
            continue
        grant = stage.device.consents.grant(person.label, purposes=purposes, valid_for=TERM, notice=NOTICE)
        grants[person.label] = grant
        recorded.append(Grant(person.label, person.role, purposes, grant.record.valid_until, grant.record.record_id))
    return grants, tuple(recorded)


def try_with_wrong_consent(stage: Stage, album: Album, grants: dict[str, ConsentGrant]) -> tuple[Refusal, ...]:
    """Return what the device answers to a grant of somebody else's, and about somebody who said no."""
    person = _first(album)
    other = next((each.label for each in album.people if each.label != person.label), _NOBODY)
    camera = stage.shutter(person.pictures[0])
    refusals = [
        attempt(
            stage,
            f"device.enrol({other!r}, camera, grant of {person.label!r})",
            lambda: stage.device.enrol(other, [camera], grants[person.label]),
        )
    ]
    for refuser in album.people:
        if refuser.role is Role.NOT_ENROLLED:
            camera = stage.shutter(refuser.pictures[0])
            refusals.append(_verify(stage, refuser, ""))
    return tuple(refusals)


def withdraw(stage: Stage, person: Person, reopen: Callable[[], None]) -> Withdrawal:
    """Withdraw one person, then try to verify them: at once, and after the device was closed and opened again."""
    watch = Stopwatch()
    receipt = stage.device.withdraw(person.label)
    seconds = watch.seconds
    refusals = [_verify(stage, person, "")]
    reopen()
    refusals.append(_verify(stage, person, " after a restart"))
    return Withdrawal(
        person.label,
        receipt.references,
        receipt.key_epoch,
        receipt.commitment,
        receipt.checkpoint,
        receipt.erased_at,
        seconds,
        tuple(refusals),
    )


def _verify(stage: Stage, person: Person, when: str) -> Refusal:
    camera = stage.shutter(person.pictures[-1])
    return attempt(stage, f"device.verify({person.label!r}, camera){when}", lambda: stage.device.verify(person.label, camera))


def _first(album: Album) -> Person:
    return next(person for person in album.people if person.role is Role.EVERYTHING)
