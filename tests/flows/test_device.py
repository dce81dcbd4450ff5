"""The main job: consent, enrol, verify, identify, withdraw, and what refuses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from facekeep import (
    AcquisitionError,
    ComparisonError,
    ConsentError,
    Device,
    EnrolmentError,
    FacekeepError,
    KeyFile,
    NonMatchError,
    Notice,
    Purpose,
    Settings,
    VaultError,
)
from facekeep.biometric import Detection, Frame, PADOutcome
from facekeep.clock import ManualClock
from facekeep.errors import CODES
from facekeep.flows.acquisition import find_single_face
from tests.flows.conftest import ALL, NOTICE, CountedModels, CountingCamera, enrol, picture

NOBODY = 900


def test_the_five_lines_of_the_readme(device: Device) -> None:
    grant = device.consents.grant("alice", purposes={Purpose.ENROLMENT, Purpose.VERIFICATION}, valid_for="P30D", notice=NOTICE)
    receipt = device.enrol("alice", [picture(1, 0), picture(1, 1)], grant)
    assert [frame.admitted for frame in receipt.frames] == [True, True]
    assert device.verify("alice", picture(1, 2)).require_match().operating_point.fmr <= 1e-3
    with pytest.raises(NonMatchError):
        device.verify("alice", picture(2, 0)).require_match()
    erased = device.withdraw("alice")
    assert erased.references == 1
    with pytest.raises(ConsentError) as caught:
        device.verify("alice", picture(1, 2))
    assert caught.value.code == "consent.none"
    assert device.subjects() == ()
    assert device.verify_trail().size == len(device.trail_entries())


def refusal(device: Device, action: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        action()
    last = json.loads(device.trail_entries()[-1])
    assert last["outcome"] == caught.value.code, "every refusal is in the trail"
    return caught.value.code


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda d, c: None, "consent.none"),
        (lambda d, c: enrol(d, "alice", 1, frozenset({Purpose.ENROLMENT})), "consent.wrong_purpose"),
        (lambda d, c: (enrol(d, "alice", 1, valid_for="PT1H"), c.advance(timedelta(hours=1))), "consent.expired"),
        (lambda d, c: (enrol(d, "alice", 1), d.consents.withdraw("alice", purposes=[Purpose.VERIFICATION])), "consent.withdrawn"),
        (lambda d, c: (enrol(d, "alice", 1), d.withdraw("alice")), "consent.none"),
        (lambda d, c: d.consents.refuse("alice", purposes=[Purpose.VERIFICATION], notice=NOTICE), "consent.refused"),
        (
            lambda d, c: d.consents.grant(
                "alice", purposes=ALL, valid_for="P1D", notice=NOTICE, valid_from=c.now() + timedelta(hours=1)
            ),
            "consent.not_yet_valid",
        ),
        (lambda d, c: (enrol(d, "alice", 1), c.advance(timedelta(minutes=-10))), "consent.clock_set_back"),
    ],
)
def test_without_consent_neither_camera_nor_model_is_touched(
    device: Device, clock: ManualClock, models: CountedModels, prepare: Callable[[Device, ManualClock], object], code: str
) -> None:
    prepare(device, clock)
    models.counting.calls.clear()
    camera = CountingCamera(picture(1, 2))
    assert refusal(device, lambda: device.verify("alice", camera)) == code
    assert camera.grants == []
    assert models.counting.calls == []


def test_identify_touches_nothing_when_nobody_consents_to_it(device: Device, models: CountedModels) -> None:
    enrol(device, "alice", 1, frozenset({Purpose.ENROLMENT, Purpose.VERIFICATION}))
    models.counting.calls.clear()
    camera = CountingCamera(picture(1, 2))
    assert refusal(device, lambda: device.identify(camera)) == "consent.none"
    assert (camera.grants, models.counting.calls) == ([], [])


def test_a_camera_gets_the_grant_and_the_models_run_in_order(device: Device, models: CountedModels) -> None:
    enrol(device, "alice", 1)
    models.with_pad = True
    models.counting.calls.clear()
    camera = CountingCamera(picture(1, 3))
    assert device.verify("alice", camera).is_match
    assert [grant.subject for grant in camera.grants] == ["alice"]
    assert models.counting.calls == ["detect", "examine", "embed"]


@pytest.mark.parametrize(
    ("verdict", "code"),
    [(PADOutcome.ATTACK, "acquisition.presentation_attack"), (PADOutcome.UNDETERMINED, "acquisition.pad_undetermined")],
)
def test_an_attack_is_never_embedded(device: Device, models: CountedModels, verdict: PADOutcome, code: str) -> None:
    enrol(device, "alice", 1)
    models.with_pad, models.counting.verdict = True, verdict
    models.counting.calls.clear()
    assert refusal(device, lambda: device.verify("alice", picture(1, 3))) == code
    assert "embed" not in models.counting.calls


def test_a_grant_is_for_its_subject_and_not_for_another(device: Device) -> None:
    alice = device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE)
    device.consents.grant("bob", purposes=ALL, valid_for="P1D", notice=NOTICE)
    assert refusal(device, lambda: device.enrol("bob", picture(2, 0), alice)) == "consent.wrong_subject"
    assert all(summary.references == 0 for summary in device.subjects())


def test_an_old_grant_object_is_worth_nothing_after_withdrawal(device: Device) -> None:
    grant = device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE)
    device.withdraw("alice")
    assert refusal(device, lambda: device.enrol("alice", picture(1, 0), grant)) == "consent.none"


def test_enrolment_without_its_purpose_is_refused(device: Device) -> None:
    grant = device.consents.grant("alice", purposes={Purpose.VERIFICATION}, valid_for="P1D", notice=NOTICE)
    assert refusal(device, lambda: device.enrol("alice", picture(1, 0), grant)) == "consent.wrong_purpose"


def test_consent_survives_restart(open_device: Callable[..., Device]) -> None:
    first = open_device()
    enrol(first, "alice", 1)
    first.close()
    again = open_device()
    assert again.verify("alice", picture(1, 4)).is_match
    assert again.consents.state("alice").purposes == ALL


def test_renewal_prolongs_and_a_smaller_grant_takes_away(device: Device, clock: ManualClock) -> None:
    enrol(device, "alice", 1, valid_for="P1D")
    clock.advance(timedelta(hours=23))
    device.consents.grant("alice", purposes={Purpose.ENROLMENT, Purpose.VERIFICATION}, valid_for="P1D", notice=NOTICE)
    clock.advance(timedelta(hours=23))
    assert device.verify("alice", picture(1, 4)).is_match
    assert [record.state for record in device.consents.records("alice")] == ["given", "renewed"]
    assert refusal(device, lambda: device.identify(picture(1, 4))) == "consent.none"


def test_one_face_is_expected(device: Device) -> None:
    enrol(device, "alice", 1)
    blank = np.full((240, 320, 3), 127, np.uint8)
    assert refusal(device, lambda: device.verify("alice", blank)) == "acquisition.no_face"
    grant = device.consents.require("alice", Purpose.ENROLMENT)
    assert refusal(device, lambda: device.enrol("alice", blank, grant)) == "acquisition.no_face"


def test_several_faces_are_refused_unless_bystanders_are_ignored(models: CountedModels, open_device: Callable[..., Device]) -> None:
    enrol(open_device(), "alice", 1)
    middle = models.counting.detector

    class WithBystander:
        def detect(self, frame: Frame) -> tuple[Detection, ...]:
            (found,) = middle.detect(frame)
            width, height = found.box_px[2:]
            larger = Detection((frame.width - 1.1 * width, -0.4 * height, 1.1 * width, 1.1 * height), found.landmarks_px, 0.99)
            return larger, found

    frame = Frame(picture(1, 2), datetime(2026, 11, 21, tzinfo=UTC))
    models.counting.detector = WithBystander()
    assert refusal(open_device(), lambda: open_device().verify("alice", frame)) == "acquisition.several_faces"
    chosen = find_single_face(frame, models, Settings(bystanders="ignored"))
    assert chosen.box_px == middle.detect(frame)[0].box_px


def test_refused_frames_are_reported_and_the_rest_is_used(device: Device) -> None:
    grant = device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE)
    blank = np.full((240, 320, 3), 127, np.uint8)
    receipt = device.enrol("alice", [blank, picture(1, 0)], grant)
    assert [frame.refused_with for frame in receipt.frames] == ["acquisition.no_face", None]
    assert 0 <= receipt.quality <= 100
    assert refusal(device, lambda: device.enrol("alice", [blank, blank], grant)) == "enrolment.no_usable_frame"
    assert refusal(device, lambda: device.enrol("alice", [], grant)) == "enrolment.no_frames"


def test_two_people_do_not_make_one_template(device: Device) -> None:
    grant = device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE)
    assert refusal(device, lambda: device.enrol("alice", [picture(1, 0), picture(2, 0)], grant)) == "enrolment.samples_disagree"
    with pytest.raises(EnrolmentError) as caught:
        device.verify("alice", picture(1, 0))
    assert caught.value.code == "enrolment.not_enrolled"


def test_identify_names_flags_and_leaves_unknown(device: Device) -> None:
    for person in range(1, 6):
        enrol(device, f"person-{person}", person)
    assert device.identify(picture(3, 5)).require_identified() == "person-3"
    unknown = device.identify(picture(NOBODY, 0))
    assert (unknown.outcome, unknown.candidates, unknown.gallery_size) == ("unknown", (), 5)
    # The same person under two names: both are too close to tell apart.
    enrol(device, "double-3", 3)
    ambiguous = device.identify(picture(3, 5), margin=0.2)
    assert ambiguous.outcome == "ambiguous"
    assert {candidate.subject for candidate in ambiguous.candidates} == {"person-3", "double-3"}
    last = json.loads(device.trail_entries()[-1])
    assert last["details"]["result"] == "ambiguous"
    assert {"started", "ended", "database", "input"} <= last["details"].keys()


def test_only_those_who_consent_are_searched(device: Device, clock: ManualClock) -> None:
    enrol(device, "alice", 1, valid_for="PT2H")
    enrol(device, "bob", 2)
    enrol(device, "carol", 3, frozenset({Purpose.ENROLMENT, Purpose.VERIFICATION}))
    assert device.identify(picture(1, 5)).require_identified() == "alice"
    assert device.identify(picture(3, 5)).outcome == "unknown"
    clock.advance(timedelta(hours=2))
    expired = device.identify(picture(1, 5))
    assert (expired.outcome, expired.gallery_size) == ("unknown", 1)
    device.withdraw("bob")
    assert refusal(device, lambda: device.identify(picture(2, 5))) == "consent.none"


def test_a_consent_that_begins_later_joins_the_search_then(device: Device, clock: ManualClock) -> None:
    enrol(device, "alice", 1)
    enrol(device, "bob", 2)
    start = clock.now() + timedelta(hours=1)
    device.consents.grant("bob", purposes=ALL, valid_for="P1D", notice=NOTICE, valid_from=start)
    assert device.identify(picture(2, 5)).outcome == "unknown"
    clock.advance(timedelta(hours=1))
    assert device.identify(picture(2, 5)).require_identified() == "bob"


def test_withdrawal_in_another_process_is_seen_at_once(open_device: Callable[..., Device]) -> None:
    here, there = open_device(), open_device()
    enrol(here, "alice", 1)
    enrol(here, "bob", 2)
    assert here.identify(picture(1, 5)).require_identified() == "alice"
    there.withdraw("alice")
    assert here.identify(picture(1, 5)).outcome == "unknown"
    assert refusal(here, lambda: here.verify("alice", picture(1, 5))) == "consent.none"


def test_opened_templates_are_wiped_when_idle(open_device: Callable[..., Device]) -> None:
    device = open_device(settings=Settings(gallery_idle=timedelta(milliseconds=80), target_fpir=0.05))
    enrol(device, "alice", 1)
    device.identify(picture(1, 5))
    cache = device._context.gallery
    opened = cache._opened
    assert opened is not None
    timer = cache._timer
    assert timer is not None
    timer.join(5)
    assert not cache.is_open
    assert not np.asarray(opened.gallery._rows).any()
    assert device.identify(picture(1, 5)).require_identified() == "alice"


def test_a_target_nobody_measured_is_refused(device: Device) -> None:
    enrol(device, "alice", 1)
    with pytest.raises(ComparisonError) as caught:
        device.verify("alice", picture(1, 2), target_fmr=1e-12)
    assert caught.value.code == "comparison.no_operating_point"
    for wrong in (1e-12, 0.0, -1.0, float("nan"), 2.0):
        with pytest.raises(ComparisonError):
            device.identify(picture(1, 2), target_fpir=wrong)
        with pytest.raises(ComparisonError):
            device.verify("alice", picture(1, 2), target_fmr=wrong)
    for margin in (float("nan"), -0.1, 3.0):
        with pytest.raises(ComparisonError) as refused:
            device.identify(picture(1, 2), margin=margin)
        assert refused.value.code == "comparison.invalid_margin"


def test_withdrawing_single_purposes_keeps_the_rest(device: Device) -> None:
    enrol(device, "alice", 1)
    device.consents.withdraw("alice", purposes=["identification"])
    assert device.verify("alice", picture(1, 2)).is_match
    assert refusal(device, lambda: device.identify(picture(1, 2))) == "consent.none"
    for purposes in ([], [Purpose.ENROLMENT]):
        with pytest.raises(ConsentError) as caught:
            device.consents.withdraw("alice", purposes=purposes)
        assert caught.value.code == "consent.invalid_request"


def test_a_withdrawn_subject_may_come_back_as_somebody_new(device: Device) -> None:
    enrol(device, "alice", 1)
    before = device.withdraw("alice")
    enrol(device, "alice", 1)
    after = device.withdraw("alice")
    assert before.commitment != after.commitment, "nothing links the two in the trail"
    with pytest.raises(ConsentError) as caught:
        device.withdraw("alice")
    assert caught.value.code == "consent.none"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"purposes": []}, "consent.invalid_request"),
        ({"purposes": ["espionage"]}, "consent.invalid_request"),
        ({"valid_for": "a while"}, "consent.invalid_request"),
        ({"valid_for": timedelta(0)}, "consent.invalid_request"),
    ],
)
def test_a_grant_that_is_not_one(device: Device, arguments: dict[str, object], code: str) -> None:
    wanted: dict[str, object] = {"purposes": ALL, "valid_for": "P1D", "notice": NOTICE} | arguments
    with pytest.raises(ConsentError) as caught:
        device.consents.grant("alice", **wanted)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert device.subjects() == ()


@pytest.mark.parametrize("subject", ["", " alice", "a\nb", "x" * 257, "\ud800"])
def test_a_subject_needs_a_usable_name(device: Device, subject: str) -> None:
    with pytest.raises(VaultError) as caught:
        device.consents.grant(subject, purposes=ALL, valid_for="P1D", notice=NOTICE)
    assert caught.value.code == "vault.invalid_identifier"


def test_no_name_reaches_the_trail_or_the_disk(device: Device, tmp_path: Path) -> None:
    enrol(device, "Wilhelmina Featherstonehaugh", 1)
    device.verify("Wilhelmina Featherstonehaugh", picture(1, 2))
    device.identify(picture(1, 2))
    assert b"Featherstone" not in b"".join(device.trail_entries())
    device.close()
    for path in (tmp_path / "home").rglob("*"):
        if path.is_file():
            assert b"Featherstone" not in path.read_bytes(), path


def test_every_event_names_a_known_outcome(device: Device) -> None:
    enrol(device, "alice", 1)
    device.verify("alice", picture(2, 0))
    device.withdraw("alice")
    events = [json.loads(entry) for entry in device.trail_entries()]
    assert {event["outcome"] for event in events} <= {"ok", *CODES}
    assert [event["event"] for event in events][-2:] == ["consent.withdrawn", "template.erased"]


def test_frames_may_be_files_too(device: Device, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "alice.png"
    Image.fromarray(picture(1, 0)).save(path)
    grant = device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE)
    device.enrol("alice", path, grant)
    assert device.verify("alice", str(path)).is_match
    path.write_bytes(b"not a picture")
    with pytest.raises(AcquisitionError) as caught:
        device.verify("alice", path)
    assert caught.value.code == "acquisition.unreadable"


def test_bad_frames_are_refused_with_a_code(device: Device) -> None:
    enrol(device, "alice", 1)
    for bad in (np.full((240, 320, 3), np.nan), np.zeros((240, 320), np.uint8), np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(AcquisitionError):
            device.verify("alice", bad)


def test_a_closed_device_says_so(device: Device) -> None:
    device.close()
    device.close()
    with pytest.raises(VaultError) as caught:
        device.verify("alice", picture(1, 0))
    assert caught.value.code == "vault.closed"


def test_open_create_and_their_opposites(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "key")
    with pytest.raises(VaultError) as caught:
        Device.open(tmp_path / "home", key=key, mode="open")
    assert caught.value.code == "vault.not_found"
    Device.open(tmp_path / "home", key=key, mode="create").close()
    with pytest.raises(VaultError) as caught:
        Device.open(tmp_path / "home", key=key, mode="create")
    assert caught.value.code == "vault.already_exists"


def test_a_corrupt_store_lets_nobody_through(open_device: Callable[..., Device], tmp_path: Path, models: CountedModels) -> None:
    import sqlite3

    device = open_device()
    enrol(device, "alice", 1)
    models.counting.calls.clear()
    with sqlite3.connect(tmp_path / "home" / "vault.db") as connection:
        connection.execute("UPDATE consents SET body = CAST(replace(body, '2026-12-21', '2036-12-21') AS BLOB)")
    connection.close()
    with pytest.raises(FacekeepError) as live:
        device.verify("alice", picture(1, 2))
    assert live.value.code in {"consent.corrupt", "vault.corrupt"}
    assert models.counting.calls == []
    device.close()
    with pytest.raises(VaultError) as reopened:
        open_device()
    assert reopened.value.code == "vault.corrupt"


def test_key_rotation_keeps_everyone(device: Device) -> None:
    enrol(device, "alice", 1)
    assert device.rotate_keys() < device.rotate_keys()
    assert device.verify("alice", picture(1, 2)).is_match
    device.verify_vault()


def test_several_references_and_the_best_counts(device: Device) -> None:
    grant = enrol(device, "alice", 1)
    device.enrol("alice", picture(1, 7), grant)
    assert [summary.references for summary in device.subjects()] == [2]
    assert device.verify("alice", picture(1, 8)).is_match


def test_the_notice_is_kept_as_its_hash_only(device: Device) -> None:
    shown = Notice("A very particular sentence.", "en-GB", "7")
    device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=shown)
    (record,) = device.consents.records("alice")
    assert (record.notice_sha256, record.notice_language, record.notice_version) == (shown.sha256, "en-GB", "7")


def test_a_withdrawal_in_the_middle_of_a_search_is_obeyed(device: Device, models: CountedModels) -> None:
    enrol(device, "alice", 1)
    enrol(device, "bob", 2)
    device.identify(picture(1, 5))
    gallery = device._context.gallery.opened(device._context.vault, device._context.clock, models.contract_id).gallery
    search = gallery.search

    def withdrawing(probe: np.ndarray, *, top: int) -> tuple[tuple[int, float], ...]:
        found = search(probe, top=top)
        device.withdraw("alice")
        return found

    gallery.search = withdrawing  # type: ignore[method-assign]
    assert device.identify(picture(1, 5)).outcome == "unknown"
    assert json.loads(device.trail_entries()[-1])["details"]["result"] == "unknown"


def test_a_clock_set_back_is_found_by_a_search_too(device: Device, clock: ManualClock) -> None:
    enrol(device, "alice", 1, valid_for="P10D")
    assert device.identify(picture(1, 5)).require_identified() == "alice"
    clock.advance(timedelta(days=20))
    assert refusal(device, lambda: device.verify("alice", picture(1, 5))) == "consent.expired"
    clock.advance(timedelta(days=-19))
    assert refusal(device, lambda: device.identify(picture(1, 5))) == "consent.clock_set_back"


def test_more_references_do_not_raise_the_false_match_rate(device: Device) -> None:
    grant = enrol(device, "alice", 1)
    before = device.verify("alice", picture(1, 5), target_fmr=1e-2).operating_point
    device.enrol("alice", picture(1, 7), grant)
    after = device.verify("alice", picture(1, 5), target_fmr=1e-2).operating_point
    assert after.fmr * 2 <= 1e-2 + 1e-12 < before.fmr * 2
    assert after.threshold > before.threshold


def test_a_template_never_outlives_the_consent_to_keep_it(device: Device) -> None:
    enrol(device, "alice", 1)
    for change in (
        lambda: device.consents.grant("alice", purposes={Purpose.VERIFICATION}, valid_for="P1D", notice=NOTICE),
        lambda: device.consents.refuse("alice", purposes=[Purpose.ENROLMENT], notice=NOTICE),
    ):
        with pytest.raises(ConsentError) as caught:
            change()
        assert caught.value.code == "consent.invalid_request"
    assert device.consents.state("alice").purposes == ALL


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda d: d.verify("alice", None), AcquisitionError),
        (lambda d: d.verify("alice", 7), AcquisitionError),
        (lambda d: d.verify("alice", b"not a picture"), AcquisitionError),
        (lambda d: d.verify("alice", type("Broken", (), {"capture": lambda self, grant: None})()), AcquisitionError),
        (lambda d: d.enrol("alice", picture(1, 0), None), ConsentError),
        (lambda d: d.consents.grant("bob", purposes=ALL, valid_for=None, notice=NOTICE), ConsentError),
        (
            lambda d: d.consents.grant("bob", purposes=ALL, valid_for="P1D", notice=NOTICE, valid_from=datetime(2026, 1, 1)),
            ConsentError,
        ),
        (lambda d: d.consents.grant("bob", purposes=ALL, valid_for="P1D", notice=NOTICE, valid_from=datetime.max), ConsentError),
        (lambda d: Notice("a\ud800"), ConsentError),
        (lambda d: d.consents.state("e\u0301mile"), VaultError),
    ],
)
def test_strange_arguments_get_a_typed_error(device: Device, call: Callable[[Device], object], kind: type[FacekeepError]) -> None:
    enrol(device, "alice", 1)
    with pytest.raises(kind):
        call(device)


@pytest.mark.parametrize("home", ["/dev/null/below", "/tmp/" + "a" * 300, "a\0b"])
def test_a_home_that_is_none(home: str, tmp_path: Path) -> None:
    with pytest.raises(VaultError):
        Device.open(home, key=KeyFile(tmp_path / "key"))


def test_a_home_made_anew_under_an_open_device_is_left_alone(open_device: Callable[..., Device], tmp_path: Path) -> None:
    import shutil

    old = open_device()
    for number in range(3):
        old.consents.grant(f"s{number}", purposes=ALL, valid_for="P1D", notice=NOTICE)
    shutil.rmtree(tmp_path / "home")
    fresh = open_device()
    fresh.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE)
    with pytest.raises(VaultError):
        old.consents.grant("bob", purposes=ALL, valid_for="P1D", notice=NOTICE)
    fresh.close()
    assert [found.subject for found in open_device().subjects()] == ["alice"]


def test_a_sample_cannot_be_forged_by_replacing_its_report() -> None:
    import dataclasses

    from facekeep.biometric import FaceSample, HeadPose, PADReport, QualityReport

    good = QualityReport(90, (("size", 90),), HeadPose(0, 0, 0))
    sample = FaceSample.admit(np.zeros((112, 112, 3), np.uint8), good, PADReport(PADOutcome.NOT_EXAMINED))
    with pytest.raises(TypeError):
        dataclasses.replace(sample, pad=PADReport(PADOutcome.ATTACK, ("p",)))
