"""The parts of the demo in which faces are recognised: enrolment, verification, identification, counting."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from facekeep.confirmation import require_result
from facekeep.consent import ConsentGrant
from facekeep.demo.album import Album, Person, Picture, Role
from facekeep.demo.meter import Shutter
from facekeep.demo.record import Comparison, EnrolmentOutcome, FrameOutcome, Search
from facekeep.demo.stage import Stage, Stopwatch
from facekeep.errors import AcquisitionError, ComparisonError, EnrolmentError, FacekeepError
from facekeep.flows.enrol import FrameReport

OK = "ok"
# What can happen to one picture. Anything else is wrong with the device, and ends the demo.
_OF_THE_PICTURE = (AcquisitionError, EnrolmentError)


@dataclass(slots=True)
class Enrolled:
    """Who got a template, and which pictures are used up.

    Attributes:
        subjects: labels, in order.
        used: pictures that enrolment saw, admitted or refused.
        alone: pictures of people whose every picture was used up.
        attempts: what happened, in order.
    """

    subjects: list[str] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    attempts: list[EnrolmentOutcome] = field(default_factory=list)

    def probes(self, person: Person) -> tuple[Picture, ...]:
        """Return the pictures of `person` that enrolment did not see."""
        return tuple(picture for picture in person.pictures if id(picture) not in self.used)


def enrol_everyone(stage: Stage, album: Album, grants: dict[str, ConsentGrant]) -> Enrolled:
    """Enrol everybody who consented, from the first third of their pictures; refused ones are replaced by the next."""
    enrolled = Enrolled()
    for person in album.people:
        if person.label in grants:
            stage.tick(f"enrolling {person.label}")
            _enrol(stage, person, grants[person.label], enrolled)
    return enrolled


def _enrol(stage: Stage, person: Person, grant: ConsentGrant, enrolled: Enrolled) -> None:
    together = max(1, min(3, len(person.pictures) // 3))
    place = 0
    while place < len(person.pictures):
        chosen = person.pictures[place : place + together]
        cameras = [stage.shutter(picture) for picture in chosen]
        watch = Stopwatch()
        try:
            receipt = stage.device.enrol(person.label, _one_by_one(stage, cameras), grant)
        except _OF_THE_PICTURE as error:
            frames = tuple(FrameOutcome(stage.snapshot(camera), None, error.code, str(error.args[0])) for camera in cameras)
            enrolled.attempts.append(
                EnrolmentOutcome(person.label, frames, None, None, error.code, str(error.args[0]), watch.seconds)
            )
            if error.code == "enrolment.samples_disagree" and together > 1:
                together = 1  # they do not go together: try them one by one
                continue
            enrolled.used.update(id(picture) for picture in chosen)
            place += together
            continue
        reports = zip(cameras, receipt.frames, strict=True)
        frames = tuple(_outcome(stage.snapshot(camera), report) for camera, report in reports)
        enrolled.attempts.append(
            EnrolmentOutcome(person.label, frames, receipt.reference_id, receipt.contract_id, OK, "", watch.seconds)
        )
        enrolled.subjects.append(person.label)
        enrolled.used.update(id(picture) for picture in chosen)
        return


def _one_by_one(stage: Stage, cameras: list[Shutter]) -> Iterator[Shutter]:
    """Hand out cameras; when the next one is asked for, the device is done with the one before: its snapshot is taken."""
    for camera in cameras:
        yield camera
        stage.snapshot(camera)


def _outcome(number: int, report: FrameReport) -> FrameOutcome:
    return FrameOutcome(number, report.quality.score if report.quality else None, report.refused_with, report.message)


@dataclass(slots=True)
class Recognised:
    """Every comparison and every search, in order."""

    comparisons: list[Comparison] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)


def recognise_everyone(stage: Stage, album: Album, enrolled: Enrolled) -> Recognised:
    """Verify and identify every picture that enrolment did not see, and show the device the rest of the album."""
    recognised = Recognised()
    gallery = gallery_of(album, enrolled)
    for person in album.people:
        probes = enrolled.probes(person)
        for picture in probes:
            stage.tick(f"recognising {picture.name}")
            camera = stage.shutter(picture)
            _verify(stage, camera, person.label, _claims(person.label, enrolled.subjects), recognised)
            recognised.searches.append(identify(stage, camera, gallery))
        if not probes and person.label in enrolled.subjects:
            # The only picture: against others it can still be compared, against its own template it would say nothing.
            camera = stage.shutter(person.pictures[0])
            stage.tick(f"recognising {person.pictures[0].name}")
            _verify(stage, camera, person.label, [each for each in enrolled.subjects if each != person.label], recognised)
            if person.label not in gallery:
                recognised.searches.append(identify(stage, camera, gallery))
    for picture in album.others:
        stage.tick(f"counting faces in {picture.name}")
        recognised.searches.append(identify(stage, stage.shutter(picture), gallery))
    return recognised


def identify(stage: Stage, camera: Shutter, gallery: Collection[str], *, is_after_withdrawal: bool = False) -> Search:
    """Return what the device answers to the question who this is."""
    person = camera.picture.person
    expected = person if person in gallery else None
    is_truth_known = person is not None
    watch = Stopwatch()
    try:
        found = require_result(stage.device.identify(camera))
    except FacekeepError as error:
        if not isinstance(error, _OF_THE_PICTURE) and error.code not in {"consent.none", "comparison.empty_gallery"}:
            raise
        seconds, number = watch.seconds, stage.snapshot(camera)
        message = str(error.args[0])
        return Search(number, expected, is_truth_known, error.code, (), 0, None, message, is_after_withdrawal, seconds)
    seconds, number = watch.seconds, stage.snapshot(camera)
    candidates = tuple((candidate.subject, candidate.score.value) for candidate in found.candidates)
    threshold = found.operating_point.threshold
    return Search(
        number, expected, is_truth_known, found.outcome, candidates, found.gallery_size, threshold, "", is_after_withdrawal, seconds
    )


def _verify(stage: Stage, camera: Shutter, person: str, claims: list[str], recognised: Recognised) -> None:
    for claim in claims:
        watch = Stopwatch()
        try:
            decision = stage.device.verify(claim, camera)
        except (AcquisitionError, ComparisonError) as error:
            if error.code == "comparison.no_operating_point":
                raise
            seconds, message = watch.seconds, str(error.args[0])
            recognised.comparisons.append(
                Comparison(stage.snapshot(camera), claim, claim == person, None, None, error.code, message, seconds)
            )
            # The sample was refused before any template was opened: every other claim would end the same way.
            return
        seconds = watch.seconds
        recognised.comparisons.append(
            Comparison(stage.snapshot(camera), claim, claim == person, decision.is_match, decision.score.value, OK, "", seconds)
        )


def _claims(person: str, subjects: list[str]) -> list[str]:
    return sorted(subjects, key=lambda subject: subject != person)


def gallery_of(album: Album, enrolled: Enrolled) -> frozenset[str]:
    """Return who can be found by a search: enrolled, and agreed to identification."""
    return frozenset(
        person.label for person in album.people if person.role is Role.EVERYTHING and person.label in enrolled.subjects
    )
