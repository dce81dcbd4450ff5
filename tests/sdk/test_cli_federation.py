"""`facekeep federate`, as an operator types it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facekeep.protocol import Challenge, FederationPolicy, Introduction
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind

PROGRAM = str(Path(sys.executable).with_name("facekeep"))
VKEY = NoteKey("fleet.example.org/k", NoteKind.ED25519, DeviceKey(b"k" * 32).public_bytes).to_vkey()
POLICY = f"""
v = 1
name = "fleet.example.org"
authority_keys = ["{VKEY}"]
planner_keys = ["{VKEY}"]
release_keys = ["{VKEY}"]
epsilon = 4
"""


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        assert self("init")[0] == 0

    def __call__(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        options = ["--home", str(self.folder / "home"), "--key-file", str(self.folder / "key")]
        done = subprocess.run([PROGRAM, *options, *arguments, "--json"], capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_device_joins_introduces_itself_and_leaves(shell: Shell, tmp_path: Path) -> None:
    code, value = shell("federate", "status")
    assert (code, value["federation"]) == (0, None)
    code, value = shell("federate", "join", str(shell.policy), "--out", str(tmp_path / "introduction"))
    assert code == 0
    introduction = Introduction.parse(base64.b64decode((tmp_path / "introduction").read_text()))
    introduction.require_signed(Challenge("fleet.example.org", bytes(32)))
    code, value = shell("federate", "status")
    assert value["federation"] == "fleet.example.org"
    assert value["policy"] == FederationPolicy.parse_toml(POLICY).sha256
    assert value["exchange_key"] == introduction.entry.exchange_key.hex()
    # Joining again is the same device, so the roster need not change.
    assert shell("federate", "join", str(shell.policy))[1]["introduction"] == value_of(introduction)
    assert shell("federate", "leave") == (0, {"federation": "fleet.example.org"})
    code, value = shell("federate", "leave")
    assert (code, value["error"]["code"]) == (18, "federation.not_joined")


def value_of(introduction: Introduction) -> str:
    return base64.b64encode(introduction.to_bytes()).decode()


def test_a_policy_that_is_not_one_is_refused(shell: Shell) -> None:
    for text in ("", "not toml [", POLICY.replace("epsilon = 4", "epsilom = 4"), POLICY + "minimum_cohort = 2\n"):
        shell.policy.write_text(text)
        code, value = shell("federate", "join", str(shell.policy))
        assert (code, value["error"]["code"]) == (18, "federation.invalid_policy"), text


def test_what_needs_a_federation_a_release_or_consent_says_so(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    for arguments, expected in (
        (("adopt", str(tmp_path / "bundle")), (19, "release.malformed")),
        (("adopt", str(tmp_path / "absent")), (19, "release.malformed")),
        (("rollback",), (19, "release.none")),
        (("collect", "ann", str(tmp_path / "empty")), (5, "acquisition.unreadable")),
        (("collect", "ann", str(tmp_path / "bundle")), (4, "consent.none")),
    ):
        code, value = shell("federate", *arguments)
        assert (code, value["error"]["code"]) == expected, arguments


def test_a_node_without_a_kit_or_a_key_is_not_started(shell: Shell, tmp_path: Path) -> None:
    # It becomes the node, so there is nothing to print as JSON.
    command = [PROGRAM, "--home", str(shell.folder / "home"), "federate", "node", str(tmp_path / "kit")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (18, "")
    assert "federation.invalid_policy" in done.stderr


def test_a_group_is_declared_under_its_purpose_and_forgotten(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "notice").write_text("Your group is counted in reports of error rates.")
    purposes = ["--purpose", "enrolment", "--purpose", "calibration-statistics"]
    granted = shell("consent", "grant", "anna", *purposes, "--valid-for", "P30D", "--notice", str(tmp_path / "notice"))
    assert granted[0] == 0
    assert shell("federate", "declare", "anna", "north") == (0, {"subject": "anna", "held": True})
    code, value = shell("federate", "declare", "anna")
    assert (code, value["error"]["code"]) == (18, "federation.malformed")
    assert shell("federate", "declare", "anna", "--forget") == (0, {"subject": "anna", "held": False})
    code, value = shell("federate", "declare", "bob", "north")
    assert (code, value["error"]["code"]) == (4, "consent.none")
