"""Releases as they travel, and the set that trusts them: bytes in one order, one spelling, and nothing believed too early."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.errors import FacekeepError, ReleaseError
from facekeep.protocol.policy import FederationPolicy, Level
from facekeep.protocol.release import ModelRelease, PrivacyStatement, ReleaseBundle, ReleasedPoint, cosign
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind
from facekeep.trust import ReleaseStanding, TrustedReleases
from facekeep.trust.vectors import parse_vectors, reference_crops, vectors_to_bytes
from tests.sdk.release_log import ReleaseLog, policy_fields

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEYS = [DeviceKey(bytes([number]) * 32) for number in (1, 2, 3)]
NAMES = ["anna", "ben", "chen"]
NUMBERS = np.arange(6, dtype="<f4").tobytes()
MODEL, VECTORS = b"the model file", vectors_to_bytes(np.eye(4, dtype=np.float32))
MEASURED_ON = "held-out people of the fleet's test set"
CONTRACT, BASE = "c0" * 32, "ba" * 32
PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats" / "release.md"


def policy(**changes: Any) -> FederationPolicy:
    keys = tuple(NoteKey(name, NoteKind.ED25519, key.public_bytes) for name, key in zip(NAMES, KEYS, strict=True))
    stated: dict[str, Any] = {"authority_keys": keys[:1], "planner_keys": keys[:1], "release_keys": keys, "release_quorum": 2}
    return FederationPolicy(**({"name": "doors.example"} | stated | changes))


def release(**changes: Any) -> ModelRelease:
    stated: dict[str, Any] = {
        "federation": "doors.example",
        "version": 2,
        "parent": "aa" * 32,
        "level": Level.HEAD,
        "base": BASE,
        "parameters_sha256": hashlib.sha256(NUMBERS).hexdigest(),
        "parameters_length": 6,
        "model": hashlib.sha256(MODEL).hexdigest(),
        "contract": CONTRACT,
        "operating_points": (
            ReleasedPoint(
                0.31, 0.01, (0.008, 0.012), 0.02, (0.015, 0.025), "held-out people of the fleet's test set", 1053, 352533
            ),
            ReleasedPoint(
                0.45, 0.001, (0.0005, 0.002), 0.15, (0.12, 0.18), "held-out people of the fleet's test set", 1053, 352533
            ),
        ),
        "privacy": PrivacyStatement(3.2, 1e-5, 100, 500),
        "rounds": (4, 5, 7),
        "vectors_sha256": hashlib.sha256(VECTORS).hexdigest(),
        "created": NOW,
        "expires": NOW + timedelta(days=90),
    }
    return ModelRelease(**(stated | changes))


def signed(item: ModelRelease, signers: int = 2) -> str:
    note = item.sign(NAMES[0], KEYS[0])
    for name, key in list(zip(NAMES, KEYS, strict=True))[1:signers]:
        note = cosign(note, name, key)
    return note


def standing(**changes: Any) -> ReleaseStanding:
    return ReleaseStanding(**({"adopted": 1, "parent": "aa" * 32, "refused": 0, "base": BASE} | changes))


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        action()
    return caught.value.code


def test_a_release_goes_through_every_step() -> None:
    trusted = TrustedReleases(policy(), standing(), NOW)
    assert trusted.take_note(signed(release())) == release()
    trusted.take_proof(b"")
    trusted.take_parameters(NUMBERS)
    trusted.take_vectors(VECTORS)
    accepted = trusted.take_model(MODEL, CONTRACT)
    assert accepted.release.digest == release().digest
    assert accepted.note == signed(release())


STEPS: list[Callable[[TrustedReleases], object]] = [
    lambda t: t.take_note(signed(release())),
    lambda t: t.take_proof(b""),
    lambda t: t.take_parameters(NUMBERS),
    lambda t: t.take_vectors(VECTORS),
    lambda t: t.take_model(MODEL, CONTRACT),
]


@given(order=st.lists(st.integers(0, 4), max_size=7))
def test_any_other_order_is_refused_and_ends_it(order: list[int]) -> None:
    trusted, expected = TrustedReleases(policy(), standing(), NOW), 0
    for step in order:
        if step == expected:
            STEPS[step](trusted)
            expected += 1
            continue
        assert code_of(lambda step=step: STEPS[step](trusted)) == "release.malformed"  # type: ignore[misc]
        # Nothing goes on after a refusal, not even what was due.
        for again in range(5):
            assert code_of(lambda again=again: STEPS[again](trusted)) == "release.malformed"  # type: ignore[misc]
        return


@pytest.mark.parametrize(
    ("changes", "stand", "rules", "code"),
    [
        ({"version": 1}, {}, {}, "release.older"),
        ({}, {"refused": 2}, {}, "release.older"),
        ({}, {"refused": 7}, {}, "release.older"),
        ({}, {"adopted": 2}, {}, "release.older"),
        ({"parent": None}, {}, {}, "release.wrong_parent"),
        ({}, {"parent": None}, {}, "release.wrong_parent"),
        ({"parent": "bb" * 32}, {}, {}, "release.wrong_parent"),
        ({"base": "bb" * 32}, {}, {}, "release.wrong_model"),
        ({"federation": "others"}, {}, {}, "release.wrong_model"),
        ({"level": Level.DEEP}, {}, {"levels": frozenset({Level.HEAD})}, "federation.plan_refused"),
        ({"expires": NOW, "created": NOW - timedelta(days=1)}, {}, {}, "release.expired"),
        ({"created": NOW + timedelta(days=2)}, {}, {}, "federation.clock"),
        ({}, {}, {"release_quorum": 3}, "release.not_signed"),
    ],
)
def test_the_note_has_to_fit(changes: dict[str, Any], stand: dict[str, Any], rules: dict[str, Any], code: str) -> None:
    trusted = TrustedReleases(policy(**rules), standing(**stand), NOW)
    assert code_of(lambda: trusted.take_note(signed(release(**changes)))) == code


def test_a_day_of_tolerance_and_no_more_and_the_last_instant_of_the_term() -> None:
    TrustedReleases(policy(), standing(), NOW).take_note(signed(release(created=NOW + timedelta(hours=23))))
    late = NOW + timedelta(days=90) - timedelta(milliseconds=1)
    TrustedReleases(policy(), standing(), late).take_note(signed(release()))


def test_one_key_twice_is_one_signer_and_a_forged_line_is_refused() -> None:
    twice = cosign(signed(release(), 1), NAMES[0], KEYS[0])
    assert code_of(lambda: TrustedReleases(policy(), standing(), NOW).take_note(twice)) == "release.not_signed"
    stranger = cosign(signed(release(), 1), "zoe", DeviceKey(b"z" * 32))
    assert code_of(lambda: TrustedReleases(policy(), standing(), NOW).take_note(stranger)) == "release.not_signed"
    other = signed(release(version=3))
    forged = other.rpartition("\n\n")[0] + "\n\n" + signed(release()).rpartition("\n\n")[2]
    assert code_of(lambda: TrustedReleases(policy(), standing(), NOW).take_note(forged)) == "release.not_signed"


def through(upto: int) -> TrustedReleases:
    trusted = TrustedReleases(policy(), standing(), NOW)
    for step in STEPS[:upto]:
        step(trusted)
    return trusted


def test_what_comes_with_the_note_has_to_be_what_it_states() -> None:
    assert code_of(lambda: through(2).take_parameters(NUMBERS[:-4])) == "release.malformed"
    assert code_of(lambda: through(2).take_parameters(NUMBERS[::-1])) == "release.malformed"
    assert code_of(lambda: through(3).take_vectors(b"")) == "release.malformed"
    assert code_of(lambda: through(4).take_model(MODEL + b"!", CONTRACT)) == "release.wrong_model"
    assert code_of(lambda: through(4).take_model(MODEL, "d0" * 32)) == "release.wrong_model"


def test_a_log_policy_asks_for_a_proof() -> None:
    rules = policy(**policy_fields())
    trusted = TrustedReleases(rules, standing(), NOW)
    trusted.take_note(signed(release()))
    trusted.take_proof(ReleaseLog().proved(release()))
    trusted.take_parameters(NUMBERS)
    for proof in (b"", b"c2sp.org/tlog-proof@v1\nindex 0\n\n", b"\xff"):
        trusted = TrustedReleases(rules, standing(), NOW)
        trusted.take_note(signed(release()))
        assert code_of(lambda trusted=trusted, proof=proof: trusted.take_proof(proof)) == "release.not_logged"  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": True},
        {"parent": "short"},
        {"level": Level.NONE},
        {"operating_points": ()},
        {"operating_points": release().operating_points[::-1]},
        {"rounds": (2, 1)},
        {"rounds": (0,)},
        {"expires": NOW},
        {"parameters_length": 0},
        {"federation": "Doors"},
        {"vectors_sha256": ""},
    ],
)
def test_a_release_that_exists_is_consistent(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        release(**changes)


def test_a_release_has_one_spelling() -> None:
    text = release().to_text()
    assert ModelRelease.parse(text) == release()
    assert ModelRelease.parse(release(privacy=PrivacyStatement(math.inf, 0.0, 3, 3)).to_text()).privacy.epsilon == math.inf
    for changed in (
        text.replace('"v":1', '"v":2'),
        text.replace('"version":2', '"version":2.0'),
        text.replace('"unit":"device"', '"unit":"person"'),
        text.replace('{"base"', '{"also":1,"base"'),
        text.replace("facekeep.release/doors.example", "facekeep.plan/doors.example"),
        text.replace("doors.example\n", "doors.example \n"),
        text.replace('"3.2"', '"3.20"'),
        text + "\n",
        "",
    ):
        with pytest.raises(ReleaseError) as caught:
            ModelRelease.parse(changed)
        assert caught.value.code == "release.malformed"


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_rubbish_is_no_bundle(data: bytes) -> None:
    assert code_of(lambda: ReleaseBundle.parse(data)) == "release.malformed"


def test_a_bundle_comes_back_and_every_cut_of_it_is_refused() -> None:
    bundle = ReleaseBundle(signed(release()), NUMBERS, VECTORS, b"proof")
    data = bundle.to_bytes()
    assert ReleaseBundle.parse(data) == bundle
    for cut in range(0, len(data), 7):
        assert code_of(lambda cut=cut: ReleaseBundle.parse(data[:cut])) == "release.malformed"  # type: ignore[misc]
    assert code_of(lambda: ReleaseBundle.parse(data + b"\0")) == "release.malformed"
    assert "proof" not in repr(bundle)


def test_reference_crops_are_the_same_everywhere() -> None:
    crops = reference_crops()
    assert (crops.shape, crops.dtype) == ((4, 112, 112, 3), np.uint8)
    assert hashlib.sha256(crops.tobytes()).hexdigest() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "data",
    [b"", VECTORS[:-4], np.zeros((4, 4), "<f4").tobytes(), np.full((4, 4), np.nan, "<f4").tobytes()],
)
def test_vectors_are_unit_vectors(data: bytes) -> None:
    assert code_of(lambda: parse_vectors(data, 4)) == "release.malformed"


def example() -> list[str]:
    """The worked example of docs/formats/release.md."""
    note = signed(release())
    bundle = ReleaseBundle(note, NUMBERS, VECTORS)
    return [
        *(NoteKey(name, NoteKind.ED25519, key.public_bytes).to_vkey() for name, key in zip(NAMES[:2], KEYS[:2], strict=True)),
        note.strip(),
        release().digest,
        hashlib.sha256(bundle.to_bytes()).hexdigest(),
        hashlib.sha256(reference_crops().tobytes()).hexdigest(),
    ]


def test_the_worked_example_is_what_the_code_writes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for piece in example():
        assert piece in page, f"docs/formats/release.md does not show:\n{piece}"


def test_cosigning_takes_releases_only() -> None:
    for note in ("no note", "text\n\n— a b\n"):
        assert code_of(lambda note=note: cosign(note, NAMES[0], KEYS[0])) == "release.malformed"  # type: ignore[misc]
    assert replace(release(), version=3).digest != release().digest


if __name__ == "__main__":
    print("\n--\n".join(example()))
