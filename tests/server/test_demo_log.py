"""The demo log: real, exact in length, verified by the auditor's command."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from facekeep.auditor import AuditPolicy
from facekeep.cli.logs import verify_log
from facekeep.errors import FacekeepError
from facekeep.logfiles import LogDirectory, audit_log
from facekeep_server.demo_log import write_demo_log
from facekeep_server.errors import ServerError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(("entries", "seed"), [(1000, 7), (1001, 1), (1499, 2), (2750, 3)])
def test_a_demo_log_keeps_its_policy_and_has_the_length_asked_for(entries: int, seed: int, tmp_path: Path) -> None:
    made = write_demo_log(tmp_path / "demo", NOW, entries=entries, seed=seed)
    verdict = audit_log(
        LogDirectory(made.log),
        AuditPolicy.parse(made.policy.read_bytes()),
        NOW,
        kept=[made.kept.read_bytes()],
        proofs=[made.proof.read_bytes()],
    )
    assert verdict.is_verified, verdict.render_text()
    assert sum(verdict.entries.values()) == verdict.size == entries
    assert (verdict.devices, len(verdict.witnesses), verdict.proofs) == (5, 2, 2)
    assert verdict.erased > made.erased > 5
    assert {"retention.run", "template.expired", "consent.refused", "identification"} <= verdict.events.keys()


def test_one_seed_makes_one_log(tmp_path: Path) -> None:
    notes = [
        (write_demo_log(tmp_path / name, NOW, seed=seed).log / "checkpoint").read_text()
        for name, seed in zip("abc", (4, 4, 5), strict=True)
    ]
    assert notes[0] == notes[1] != notes[2]


def test_a_folder_in_use_and_a_short_log_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, entries in ((tmp_path, 1000), (tmp_path / "file", 1000), (tmp_path / "new", 999)):
        with pytest.raises(ServerError):
            write_demo_log(folder, NOW, entries=entries)


def facekeep(*arguments: str, cwd: Path, server: bool = False) -> subprocess.CompletedProcess[str]:
    module = "facekeep_server.cli" if server else "facekeep.cli"
    command = [sys.executable, "-c", f"from {module} import main; main()", *arguments]
    environment = {**os.environ, "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_commands_work_together(tmp_path: Path) -> None:
    made = facekeep("demo-log", "demo", "--json", cwd=tmp_path, server=True)
    assert made.returncode == 0, made.stderr
    command = json.loads(made.stdout)["command"].split()[1:]
    assert command[:5] == ["audit", "verify", "demo/log", "--policy", "demo/policy.toml"]
    assert command[5:] == ["--kept", "demo/checkpoint-kept", "--proof", "demo/erasure.tlog-proof"]
    good = facekeep(*command, cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("VERIFIED")
    assert "audit: 1000 of 1000 entries" in good.stderr
    bundle = tmp_path / "demo" / "log" / "tile" / "entries" / "002"
    bundle.write_bytes(bundle.read_bytes().replace(b'"match":true', b'"match":fals', 1))
    bad = facekeep(*command, "--json", cwd=tmp_path)
    assert bad.returncode == 10
    assert json.loads(bad.stdout)["verified"] is False


def test_what_the_command_cannot_use_is_said_at_once(tmp_path: Path) -> None:
    made = write_demo_log(tmp_path / "demo", NOW)
    for log, policy, kept, code in (
        (tmp_path / "nowhere", made.policy, [], "log.incomplete"),
        (made.log, made.log / "checkpoint", [], "audit.invalid_policy"),
        (made.log, tmp_path, [], "audit.invalid_policy"),
        (made.log, made.policy, [tmp_path / "nothing"], "log.io"),
        ("http://example.com/log", made.policy, [], "log.unreachable"),
    ):
        with pytest.raises(FacekeepError) as caught:
            verify_log(str(log), policy, kept, [], as_json=True)
        assert caught.value.code == code
    with pytest.raises(typer.BadParameter):
        verify_log(str(made.log), None, [], [], as_json=True)
