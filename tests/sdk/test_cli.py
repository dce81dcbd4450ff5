"""The command line as a user types it, in processes of its own: texts, JSON, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facekeep.cli.output import EXIT_CODES, exit_code_of
from facekeep.errors import CODES, FacekeepError, NonMatchError
from facekeep_models.simulation import DrawnPerson, draw_frame

ROOT = Path(__file__).parents[2]


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "FACEKEEP_HOME": str(folder / "home"),
            "FACEKEEP_KEY_FILE": str(folder / "device.key"),
            "COLUMNS": "200",
        }

    def run(self, *arguments: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "facekeep", *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        done = self.run(*arguments, "--json", code=code)
        assert done.stdout.count("\n") == 1, "exactly one JSON object"
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    (tmp_path / "notice.txt").write_text("Your face is compared on this device only.")
    for person in (1, 2):
        (tmp_path / f"p{person}").mkdir()
        for number in range(3):
            Image.fromarray(draw_frame(DrawnPerson(person), number, (240, 320)).pixels).save(
                tmp_path / f"p{person}" / f"{number}.png"
            )
    return shell


DRAWN = ("--detector", "drawn-detector", "--embedder", "drawn-embedder")
CONSENT = ("--notice", "notice.txt", "--valid-for", "P30D", "-p", "enrolment", "-p", "verification", "-p", "identification")


def test_the_main_job_from_the_shell(shell: Shell) -> None:
    assert shell.json("init")["home"].endswith("home")
    assert shell.json("consent", "grant", "alice", *CONSENT)["state"] == "given"
    enrolled = shell.json("enrol", "alice", "p1/0.png", "p1/1.png", *DRAWN)
    assert [frame["admitted"] for frame in enrolled["frames"]] == [True, True]
    assert shell.json("verify", "alice", "p1/2.png")["match"] is True
    assert shell.json("verify", "alice", "p2/0.png", code=3)["match"] is False
    assert shell.json("identify", "p1/2.png")["subjects"] == ["alice"]
    assert shell.json("identify", "p2/2.png", code=3)["outcome"] == "unknown"
    (listed,) = shell.json("list")["subjects"]
    assert (listed["subject"], listed["references"], listed["state"]) == ("alice", 1, "in force")
    status = shell.json("status")
    assert (status["embedder"], sum(status["templates_by_contract"].values())) == ("drawn-embedder/onnx", 1)
    shown = shell.json("consent", "show", "alice")
    assert shown["in_force"] == ["enrolment", "identification", "verification"]
    shell.json("consent", "withdraw", "alice", "-p", "identification")
    assert shell.json("identify", "p1/2.png", code=4)["error"]["code"] == "consent.none"
    assert shell.json("keys", "rotate")["key_epoch"] >= 1
    erased = shell.json("withdraw", "alice", "--receipt", "receipt.json")
    assert json.loads((shell.folder / "receipt.json").read_text()) == erased
    assert shell.json("verify", "alice", "p1/2.png", code=4)["error"]["code"] == "consent.none"
    report = shell.json("audit", "verify")
    assert report["entries"] == len(shell.json("audit", "show", "--last", "1000")["entries"])
    assert shell.json("list")["subjects"] == []


def test_what_people_read(shell: Shell) -> None:
    assert "created at" in shell.run("init").stdout
    assert "Consent given for" in shell.run("consent", "grant", "alice", *CONSENT).stdout
    assert "Enrolled from 3 of 3 frames" in shell.run("enrol", "alice", "p1", *DRAWN).stdout
    assert "drawn-embedder/onnx" in shell.run("status").stdout
    assert "Match at a false match rate of" in shell.run("verify", "alice", "p1/2.png").stdout
    assert "Identified: alice" in shell.run("identify", "p1/2.png").stdout
    assert "alice" in shell.run("list").stdout
    assert "given" in shell.run("consent", "show", "alice").stdout
    assert "template.created" in shell.run("audit", "show").stdout
    assert "verify" in shell.run("audit", "verify").stdout
    assert "drawn-embedder" in shell.run("models", "list").stdout
    assert "sha256" in shell.run("models", "show", "drawn-embedder").stdout
    assert "ok" in shell.run("models", "verify", "drawn-embedder").stdout
    assert "destroyed" in shell.run("withdraw", "alice").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("list",), 8, "vault.not_found"),
        (("models", "show", "no-such-pack"), 9, "model.unknown_pack"),
        (("models", "import", "notice.txt"), 9, "model.unknown_pack"),
        (("models", "import", "absent.onnx"), 9, "model.io"),
    ],
)
def test_errors_have_codes_on_stderr_and_in_json(shell: Shell, arguments: tuple[str, ...], code: int, error: str) -> None:
    assert shell.run(*arguments, code=code).stderr.startswith(f"{error}: ")
    assert shell.json(*arguments, code=code)["error"]["code"] == error


def test_usage_errors_exit_with_2(shell: Shell) -> None:
    assert shell.json("verify", "alice", code=2)["error"]["code"] == "usage"
    shell.run("no-such-command", code=2)
    shell.run("verify", code=2)
    shell.run("consent", "grant", "alice", *CONSENT, "-p", "espionage", code=2)


def test_real_packs_are_never_chosen_silently_from_stand_ins(shell: Shell) -> None:
    shell.run("init")
    shell.run("consent", "grant", "alice", *CONSENT)
    # A policy that none of the packs that ship satisfies: the answer names real packs, and no stand-in steps in.
    error = shell.json("--commercial-only", "enrol", "alice", "p1", code=9)["error"]
    assert error["code"] in {"model.not_installed", "model.not_permitted"}
    assert "facekeep models pull yunet-s" in error["message"]
    assert "drawn" not in error["message"]


def test_stand_ins_and_real_packs_do_not_mix(shell: Shell, shared_dir: Path) -> None:
    for name in ("detectors/yunet_s_dynamic.onnx", "detectors/yunet_n_dynamic.onnx", "embedders/face_reid_retail_0095.onnx"):
        shell.run("models", "import", str(shared_dir / "models" / name))
    shell.run("init")
    shell.run("consent", "grant", "alice", *CONSENT)
    mixed = shell.json("enrol", "alice", "p1/0.png", "--embedder", "drawn-embedder", code=9)
    assert mixed["error"]["code"] == "model.wrong_task"
    photo = str(shared_dir / "data/photos/compreface_002_A.jpg")
    assert "yunet-s" in shell.run("enrol", "alice", photo).stdout
    other = ("enrol", "alice", photo, "--detector", "yunet-n")
    assert shell.json(*other, code=9)["error"]["code"] == "model.other_in_use"
    assert shell.json("verify", "alice", photo)["match"] is True
    shell.run(*other, "--switch-models")
    assert len(shell.json("status")["templates_by_contract"]) == 2


def test_a_consent_that_has_ended_is_not_shown_as_in_force(shell: Shell) -> None:
    shell.run("init")
    shell.run("consent", "grant", "alice", *CONSENT[:2], "--valid-for", "PT1S", "-p", "enrolment")
    shell.run("consent", "refuse", "bob", *CONSENT[:2], "-p", "enrolment")
    time.sleep(1.1)
    states = {found["subject"]: (found["state"], found["purposes"]) for found in shell.json("list")["subjects"]}
    assert states == {"alice": ("expired", []), "bob": ("refused", [])}
    shown = shell.json("consent", "show", "alice")
    assert (shown["state"], shown["in_force"], shown["agreed"]) == ("expired", [], ["enrolment"])


def test_policies_refuse_at_load(shell: Shell) -> None:
    shell.run("init")
    shell.run("consent", "grant", "alice", *CONSENT)
    error = shell.json("--commercial-only", "enrol", "alice", "p1", *DRAWN, code=9)["error"]
    assert error["code"] == "model.not_permitted"


def test_a_passphrase_comes_from_a_file_or_stdin(shell: Shell) -> None:
    del shell.environment["FACEKEEP_KEY_FILE"]
    shell.json("init", code=8)
    (shell.folder / "passphrase").write_text("correct horse battery staple\n")
    assert shell.json("--passphrase-file", "passphrase", "init", code=8)["error"]["code"] == "vault.insecure_key"
    (shell.folder / "passphrase").chmod(0o600)
    shell.json("--passphrase-file", "passphrase", "init")
    assert shell.json("--passphrase-file", "passphrase", "list") == {"subjects": []}
    done = shell.run("--passphrase-file", "-", "list", "--json", stdin="correct horse battery staple\n")
    assert json.loads(done.stdout) == {"subjects": []}
    (shell.folder / "wrong").write_text("another passphrase altogether\n")
    (shell.folder / "wrong").chmod(0o600)
    assert shell.json("--passphrase-file", "wrong", "list", code=8)["error"]["code"] == "vault.wrong_key"
    assert shell.json("list", code=8)["error"]["code"] == "vault.no_key"


def test_pipes_and_devices_are_no_files(shell: Shell) -> None:
    shell.run("init")
    os.mkfifo(shell.folder / "pipe")
    for notice in ("pipe", "/dev/zero"):
        error = shell.json("consent", "grant", "alice", "--notice", notice, *CONSENT[2:], code=4)["error"]
        assert error["code"] == "consent.invalid_request"
    shell.run("consent", "grant", "alice", *CONSENT)
    assert shell.json("enrol", "alice", "pipe", *DRAWN, code=5)["error"]["code"] == "acquisition.unreadable"
    os.mkfifo(shell.folder / "home" / "vault.db-journal")
    assert shell.json("list", code=8)["error"]["code"] == "vault.corrupt"


def test_init_remembers_the_key_file(shell: Shell) -> None:
    (shell.folder / "home").mkdir(mode=0o755)
    shell.run("init")
    assert (shell.folder / "home").stat().st_mode & 0o777 == 0o700
    del shell.environment["FACEKEEP_KEY_FILE"]
    assert shell.json("list") == {"subjects": []}
    assert shell.json("init", code=8)["error"]["code"] in {"vault.no_key", "vault.already_exists"}


def test_a_changed_trail_is_found_from_the_shell(shell: Shell) -> None:
    import sqlite3

    shell.run("init")
    shell.run("consent", "grant", "alice", *CONSENT)
    shell.run("enrol", "alice", "p1/0.png", *DRAWN)
    connection = sqlite3.connect(shell.folder / "home" / "vault.db")
    with connection:
        connection.execute("UPDATE trail SET body = replace(body, 'template.created', 'template.erased') WHERE seq = 3")
        connection.execute("DELETE FROM trail WHERE seq = 1")
    connection.close()
    done = shell.run("audit", "verify", code=10)
    assert done.stderr.startswith("audit.")


def test_every_branch_has_an_exit_code_and_the_page_lists_them() -> None:
    assert {code.split(".")[0] for code in CODES} == set(EXIT_CODES)
    page = (ROOT / "docs" / "cli.md").read_text()
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert set(EXIT_CODES.values()) | {0, 1, 2, 3, 130} == listed
    assert exit_code_of(NonMatchError("comparison.non_match", "text")) == 3
    assert exit_code_of(FacekeepError("consent.none", "text")) == 4


def test_every_command_of_the_page_exists(shell: Shell) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    commands = re.findall(r"^\| `([a-z]+)[ `]", page, re.MULTILINE)
    assert len(commands) >= 12
    for command in dict.fromkeys(commands):
        assert "--help" in shell.run(command, "--help").stdout
