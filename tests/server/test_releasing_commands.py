"""`federate candidate | release | calibrate | demographics` as an operator runs them, the signing on another machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from facekeep import PackStore
from facekeep.participation.statistics import SubjectCounts, calibration_contribution, demographic_contribution
from facekeep.protocol import Kind
from facekeep_server.cli.app import app
from facekeep_server.releases.contracts import ContractDescription
from facekeep_server.releases.evaluating import EvaluationCrops
from tests.server.test_releases_made import Setting, contract, crops, maker, open_device, packs  # noqa: F401


@pytest.fixture
def setting(tmp_path: Path, packs: PackStore, crops: EvaluationCrops, contract: ContractDescription) -> Setting:  # noqa: F811
    return Setting(tmp_path / "fleet", packs, crops, contract)


def invoke(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["federate", *map(str, words), "--json"], catch_exceptions=True)
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout) if code == 0 else f"{result.output} {result.exception}"


def test_from_a_round_to_the_fleet(setting: Setting, tmp_path: Path, packs: PackStore) -> None:  # noqa: F811
    root = setting.state.root
    number = setting.round()
    (tmp_path / "drawn").mkdir()
    np.savez(tmp_path / "drawn" / "crops.npz", crops=setting.crops.crops, people=setting.crops.people)
    with open_device(tmp_path / "device", packs) as device:
        (tmp_path / "contract.json").write_bytes(device.federation.describe_contract())
    # The release keys are elsewhere from the beginning.
    shutil.move(root / "offline", tmp_path / "elsewhere")
    made = invoke("candidate", number, "--state", root, "--optimiser", "average", "--rate", "0.02")
    assert made["version"] == 1
    gate = ["--crops", tmp_path / "drawn", "--contract", tmp_path / "contract.json", "--fall", "0.01=0.05"]
    text = invoke("release", "make", "--state", root, *gate)
    assert text["epsilon"] > 0
    (tmp_path / "stick").mkdir()
    shutil.copy(text["file"], tmp_path / "stick" / "release")
    for key in (1, 2):
        words = ["--key", tmp_path / "elsewhere" / f"release-{key}.key", "--out", tmp_path / "stick" / f"signature-{key}"]
        assert invoke("release", "sign", tmp_path / "stick" / "release", *words)["digest"] == text["digest"]
    only = invoke("release", "publish", tmp_path / "stick" / "signature-1", "--state", root, code=1)
    assert "release.not_signed" in only
    signatures = [tmp_path / "stick" / f"signature-{key}" for key in (1, 2)]
    invoke("release", "publish", *signatures, "--state", root, "--canary", 0, "--canary", 2, "--needed", 1)
    (found,) = invoke("release", "status", "--state", root)["releases"]
    assert (found["stage"], found["canaries"], found["needed"]) == ("canary", [0, 2], 1)
    invoke("release", "withhold", 1, "--reason", "complaints at the gate", "--state", root)
    (found,) = invoke("release", "status", "--state", root)["releases"]
    assert found["stage"] == "withheld"
    worse = invoke("release", "make", "--state", root, *gate[:4], "--fall", "0.01=0.05", "--most-change", "0.0001", code=1)
    assert "release.gate" in worse
    entries = [json.loads(line) for line in (root / "trail" / "entries.jsonl").read_text().splitlines()]
    told = [(entry["event"], entry["outcome"]) for entry in entries if entry["event"].startswith("release.")]
    assert told == [("release.published", "ok"), ("release.withheld", "release.gate"), ("release.withheld", "release.gate")]


def test_statistics_are_planned_run_and_read(setting: Setting) -> None:
    fleet, root = setting.fleet, setting.state.root
    generator = np.random.default_rng(1)
    scores = [generator.normal(0.0, 0.12, 500) for _ in fleet.devices]
    people = [[SubjectCounts("north", 10, 1, 100, 2), SubjectCounts("south", 8, 2, 100, 1)] for _ in fleet.devices]
    for number, device in enumerate(fleet.devices):

        def make(plan: Any, subjects: int, number: int = number) -> Any:
            if plan.kind is Kind.CALIBRATION:
                return calibration_contribution(scores[number], plan)
            return demographic_contribution(people[number], plan)

        device.make = make
    # The devices of this fleet have a clock of their own, which the command does not read.
    from facekeep.clock import SystemClock

    fleet.clock.advance(SystemClock().now() - fleet.clock.now())
    common = ["--state", root, "--noise", "0.001", "--no-anchors", "--cohort", 6]
    planned = invoke("calibrate", *common, "--low", "0.1", "--high", "0.5")
    assert (planned["round"], planned["kind"], planned["cohort"]) == (1, "calibration", 6)
    fleet.drive(fleet.grid())
    refused = invoke("calibrate", "--state", root, "--round", 1, "--fmr", "0.05", code=1)
    assert "federation.invalid_update" in refused, "six devices are too few for any promise"
    groups = ["--group", "north", "--group", "south"]
    planned = invoke("demographics", *common, *groups, "--threshold", "0.3")
    fleet.drive(fleet.grid())
    found = invoke("demographics", "--state", root, "--round", planned["round"], "--floor", 3)
    north, south, everybody = found["groups"]
    assert (north["subjects"], south["subjects"], everybody["subjects"]) == (6, 6, 12)
    assert north["fnmr"]["rate"] == pytest.approx(0.1, abs=0.02)
    assert south["fnmr"]["rate"] == pytest.approx(0.25, abs=0.02)
    hidden = invoke("demographics", "--state", root, "--round", planned["round"])
    assert [group["suppressed"] for group in hidden["groups"]] == [True, True]
    assert "server.invalid_request" in invoke("calibrate", "--state", root, "--round", planned["round"], code=1)
    assert "server.invalid_request" in invoke("plan", "--state", root, "--kind", "calibration", code=1)
