"""The demo: the main job of a device on an album, and a page that shows what happened.

Steps:
    0 prepare: read the album, choose the models, claim the output directory, make a throw-away home
    1 before anybody was asked, every call is refused
    2 show the notice and record who agrees to what
    3 enrol
    4 verify, 1:1
    5 identify, 1:N in an open set, and count the faces of every other picture
    6 withdraw one person, and try to recognise them again
    7 prove: trail, vault, residue, an older copy
    8 delete the throw-away home, then draw the page
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from facekeep.assembly import ModelChoice
from facekeep.calibration import operating_point_for
from facekeep.clock import Clock, SystemClock
from facekeep.demo.album import Album, Limits, Person, Role
from facekeep.demo.consenting import NOTICE, ask_everyone, try_with_wrong_consent, try_without_consent, withdraw
from facekeep.demo.material import Asked, Cast, commands_for_real_ones, gather
from facekeep.demo.meter import Meter
from facekeep.demo.output import OutputDirectory
from facekeep.demo.page import render_page
from facekeep.demo.proving import back_up, prove, weigh
from facekeep.demo.recognising import Enrolled, Recognised, enrol_everyone, gallery_of, identify, recognise_everyone
from facekeep.demo.record import ModelsUsed, Promise, Record
from facekeep.demo.report import DemoReport, to_json
from facekeep.demo.residue import Needles
from facekeep.demo.stage import Stage, Stopwatch, require_pillow
from facekeep.device import Device
from facekeep.flows.context import Settings
from facekeep.keys import KeyFile
from facekeep.packs import LoadPolicy, PackStore, split_name

# Called with steps done, steps in all, and what comes next.
Progress: TypeAlias = Callable[[int, int, str], None]
PAGE_NAME: Final = "index.html"
REPORT_NAME: Final = "report.json"
SCRATCH_PREFIX: Final = "facekeep-demo-"
# How many pictures of the one who withdrew are searched for once more.
_AGAIN: Final = 3


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the demo was asked for, with every gap filled."""

    store: PackStore
    choice: ModelChoice
    policy: LoadPolicy
    settings: Settings
    clock: Clock
    album: Album
    scratch: Path

    @property
    def home(self) -> Path:
        """The throw-away home."""
        return self.scratch / "home"

    def open_device(self, home: Path) -> Device:
        """Open the device at `home`, with a key file beside it."""
        return Device.open(
            home,
            key=KeyFile(self.scratch / "key"),
            detector=self.choice.detector,
            embedder=self.choice.embedder,
            pads=self.choice.pads,
            packs=self.store,
            policy=self.policy,
            settings=self.settings,
            clock=self.clock,
        )


def run_demo(
    *,
    out: Path,
    photos: Path | None = None,
    people: Cast | None = None,
    packs: PackStore | None = None,
    detector: str | None = None,
    embedder: str | None = None,
    pads: Sequence[str] = (),
    settings: Settings | None = None,
    policy: LoadPolicy | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    _are_drawings: bool = False,
) -> DemoReport:
    """Run the main job on photographs, synthetic people or drawn figures, write the page and the report, and say what happened.

    Args:
        out: directory for index.html and report.json; made for its owner only, refused if it holds something else.
        photos: folder of labelled photographs (`facekeep.demo.photos.LAYOUTS`); left out: people who do not exist.
        people: who is in front of the camera without photographs: "synthetic" people, for models of real faces, or "drawn"
            figures, with stand-in models; left out: synthetic where such models are here and the policy allows, else drawn.
        packs: where model packs lie; left out: only what ships with Facekeep.
        detector: "pack" or "pack/build"; left out: the best installed, or the stand-in for drawn figures.
        embedder: likewise.
        pads: packs for presentation attack detection.
        settings: of the device.
        policy: which licences and training data are acceptable.
        limits: how much of a large folder is used.
        progress: called before every step, and once at the end.
        _are_drawings: for the tests of the demo: `photos` holds drawn figures.

    Raises:
        ValueError: if both photographs and people are named.
        ModelError: "model.not_installed" with the commands that help, if a pack for real faces is needed and none is here;
            "model.wrong_task" for real faces with a pack that knows drawn figures only; "model.not_permitted".
        AcquisitionError: "acquisition.unreadable", "acquisition.no_decoder". DemoError: "demo.no_people" if the
            folder names nobody, "demo.refused_directory" for the output directory.
    """
    if photos is not None and people is not None:
        raise ValueError("a demo shows photographs or people who do not exist, not both")
    # 0 prepare
    require_pillow()
    watch, clock = Stopwatch(), SystemClock()
    settings, policy = settings or Settings(), policy or LoadPolicy()
    # Deleted whatever happens: an interrupt leaves no vault behind.
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as scratch:
        store = packs or PackStore(Path(scratch) / "packs")
        asked = Asked(photos, people, ModelChoice(detector, embedder, tuple(pads)), _are_drawings)
        album, choice = gather(asked, store=store, policy=policy, settings=settings, limits=limits or Limits(), clock=clock)
        output, tick = OutputDirectory(out), _Ticker(progress, album)
        try:
            record = _perform(_Plan(store, choice, policy, settings, clock, album, Path(scratch)), tick)
        except BaseException:
            output.discard()
            raise

    # 8 the home is gone: draw
    gone = Promise("The demo leaves no vault behind.", not Path(scratch).exists(), "Its throw-away home was deleted.")
    record = replace(record, promises=(*record.promises, gone), seconds=watch.seconds)
    page = output.write(PAGE_NAME, render_page(record, output.path).encode("utf-8"))
    report = output.write(REPORT_NAME, to_json(record))
    tick.finish()
    return DemoReport(page, report, record)


def _perform(plan: _Plan, tick: _Ticker) -> Record:
    album, started, needles = plan.album, plan.clock.now(), Needles()
    tick("opening a device in a throw-away home")
    stage = Stage(plan.open_device(plan.home), plan.settings, Meter(needles.add), needles, tick)
    try:
        stage.meter.install(stage.device)

        # 1 refused without consent
        tick("trying without consent")
        refusals = [*try_without_consent(stage, album)]

        # 2 notice and consent
        tick("showing the notice, recording consent")
        grants, recorded = ask_everyone(stage, album)
        refusals += try_with_wrong_consent(stage, album, grants)

        # 3 enrol
        enrolled = enrol_everyone(stage, album, grants)
        tick.enrolled(album, grants, enrolled)

        # 4 verify, 5 identify and count
        recognised = recognise_everyone(stage, album, enrolled)

        # 6 withdraw
        leaver = _leaver(album, enrolled)
        tick(f"withdrawing {leaver.label}")
        back_up(plan.home, plan.scratch / "backup")

        def reopen() -> None:
            stage.device.close()
            stage.device = plan.open_device(plan.home)
            stage.meter.install(stage.device)

        withdrawal = withdraw(stage, leaver, reopen)
        _search_again(stage, album, enrolled, leaver, recognised)

        # 7 prove
        tick("verifying trail and vault, searching for residue")
        proof = prove(stage, plan.home, plan.scratch / "backup", plan.open_device)
    finally:
        stage.device.close()
    tick("drawing the page")
    searches = tuple(recognised.searches)
    return Record(
        kind=album.kind,
        origin=album.origin,
        remarks=album.remarks,
        portraits=album.portraits,
        started_at=started,
        seconds=0.0,
        notice=NOTICE.text,
        models=_models_used(plan, stage.meter),
        snapshots=tuple(stage.snapshots),
        refusals=tuple(refusals),
        grants=recorded,
        declined=tuple(person.label for person in album.people if person.role is Role.NOT_ENROLLED),
        strangers=tuple(person.label for person in album.people if person.role is Role.STRANGER),
        enrolments=tuple(enrolled.attempts),
        comparisons=tuple(recognised.comparisons),
        searches=searches,
        withdrawal=withdrawal,
        proof=proof,
        promises=weigh(refusals, recorded, enrolled.subjects, recognised.comparisons, searches, withdrawal, proof),
        stage_seconds=tuple((stage_name, tuple(times)) for stage_name, times in stage.meter.seconds.items()),
        calls=stage.meter.reading,
    )


def _leaver(album: Album, enrolled: Enrolled) -> Person:
    """Return who withdraws: the last of those who could be found until then, if possible one with a picture to try with."""
    agreed = [person for person in album.people if person.role is Role.EVERYTHING]
    return max(agreed, key=lambda person: (person.label in enrolled.subjects, bool(enrolled.probes(person)), agreed.index(person)))


def _search_again(stage: Stage, album: Album, enrolled: Enrolled, leaver: Person, recognised: Recognised) -> None:
    """Search for the one who left, with pictures that found them before, and for one who stayed."""
    gallery = gallery_of(album, enrolled) - {leaver.label}
    pictures = list(enrolled.probes(leaver) or leaver.pictures[:1])[:_AGAIN]
    stayed = next((enrolled.probes(person) for person in album.people if person.label in gallery and enrolled.probes(person)), ())
    for picture in (*pictures, *stayed[:1]):
        recognised.searches.append(identify(stage, stage.shutter(picture), gallery, is_after_withdrawal=True))


def _models_used(plan: _Plan, meter: Meter) -> ModelsUsed:
    loaded = meter.models
    names = (plan.choice.detector or "", plan.choice.embedder or "", *plan.choice.pads)
    manifests = [plan.store.manifest(split_name(name)[0]) for name in names]
    return ModelsUsed(
        detector=names[0],
        embedder=names[1],
        pads=plan.choice.pads,
        titles=tuple((manifest.id, manifest.title) for manifest in manifests),
        are_stand_ins=any(manifest.is_simulation for manifest in manifests),
        real_ones=commands_for_real_ones(plan.store),
        contract_id=loaded.contract_id if loaded else "",
        point=operating_point_for(loaded.operating_points, plan.settings.target_fmr) if loaded else None,
    )


class _Ticker:
    """Counts steps for whoever shows them."""

    def __init__(self, progress: Progress | None, album: Album) -> None:
        # Opening, refusing, asking, withdrawing, proving, drawing; enrolment of each person; every picture once, at most.
        self._total = 6 + len(album.people) + sum(len(person.pictures) for person in album.people) + len(album.others)
        self._done, self._is_first = 0, True
        self._progress = progress

    def __call__(self, what: str) -> None:
        """Say what comes next; what came before is done."""
        self._done += not self._is_first
        self._is_first = False
        self._say(what)

    def enrolled(self, album: Album, grants: Container[str], enrolled: Enrolled) -> None:
        """Count as done what enrolment has used up: those pictures are not recognised, who said no is not enrolled."""
        for person in album.people:
            probes = len(enrolled.probes(person)) or (person.label in enrolled.subjects)
            self._done += len(person.pictures) - probes + (person.label not in grants)

    def finish(self) -> None:
        """Say that everything is done."""
        self._done = self._total
        self._say("done")

    def _say(self, what: str) -> None:
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total, what)
