"""`facekeep consent` as a subject, a controller and a third party use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from facekeep.cli.app import app
from facekeep.errors import FacekeepError

PURPOSES = ("-p", "enrolment", "-p", "verification")


class Shell:
    """The command line without a process of its own for each command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.device = ("--home", str(folder / "home"), "--key-file", str(folder / "device.key"))

    def run(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(item) for item in arguments], catch_exceptions=True)
        if isinstance(done.exception, FacekeepError):
            raise done.exception
        assert done.exit_code == code, f"{arguments}: {done.exit_code} {done.output} {done.exception!r}"
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        value = json.loads(self.run(*arguments, "--json", code=code))
        assert isinstance(value, dict)
        return value

    def on_device(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        return self.json(*self.device, *arguments, code=code)

    def fails(self, *arguments: str) -> str:
        with pytest.raises(FacekeepError) as caught:
            self.run(*arguments)
        return caught.value.code

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    (tmp_path / "notice.txt").write_text("Your face is compared on this device only.")
    shell.on_device("init")
    return shell


def grant(shell: Shell, subject: str, *more: str) -> dict[str, Any]:
    notice = shell.path("notice.txt")
    return shell.on_device("consent", "grant", subject, "--notice", notice, "--valid-for", "P30D", *PURPOSES, *more)


def test_a_third_party_verifies_offline_with_two_public_keys(shell: Shell) -> None:
    key = shell.json("consent", "controller", "new-key", shell.path("controller.skey"), "--name", "controller.example/c")[
        "public_key"
    ]
    assert (shell.folder / "controller.skey").stat().st_mode & 0o777 == 0o600
    assert shell.json("consent", "controller", "show-key", "--key", shell.path("controller.skey"))["public_key"] == key
    (shell.folder / "policy.toml").write_text(f'require_controller_signature = true\ncontroller_key = "{key}"\n')
    shell.on_device("consent", "policy", "set", shell.path("policy.toml"))
    assert shell.on_device("consent", "policy", "show")["require_controller_signature"] is True
    notice = shell.path("notice.txt")
    shell.on_device("consent", "request", "alice", "--notice", notice, *PURPOSES)
    (shell.folder / "release.txt").write_text("I release.")
    given = grant(shell, "alice", "--guardian", "mother", "--release", shell.path("release.txt"), "--release-term", "P1Y")
    assert given["actor"] == "guardian"
    files = ("--out", shell.path("receipt.json"), "--html", shell.path("receipt.html"))
    exported = shell.on_device("consent", "export", "alice", *files, "--notice", notice)
    device = exported["device_key"]
    hexadecimal = shell.on_device("status")["public_key"]
    verify = ("consent", "verify", shell.path("receipt.json"), "--device-key", device)
    assert shell.json(*verify)["controller"] == "not checked"
    assert shell.fails(*verify, "--controller-key", key, "--require-controller") == "consent.not_countersigned"

    signing = ("--key", shell.path("controller.skey"), "--device-key", hexadecimal)
    out = ("--out", shell.path("signatures.json"))
    assert shell.json("consent", "controller", "countersign", shell.path("receipt.html"), *signing, *out)["signed"] == 2
    assert shell.on_device("consent", "countersign", "alice", shell.path("signatures.json"))["countersigned"] == 2
    shown = shell.on_device("consent", "show", "alice")
    assert [item["controller_signatures"] for item in shown["records"]] == [["controller.example/c"]] * 2
    assert "controller.example/c" in shell.run(*shell.device, "consent", "show", "alice")
    printed = shell.run(*shell.device, "consent", "export", "alice")
    (shell.folder / "second.json").write_text(printed)
    again = ("consent", "verify", shell.path("second.json"), "--device-key", hexadecimal, "--controller-key", key)
    found = shell.json(*again, "--require-controller")
    assert (found["verdict"], found["controller"], found["purposes"]) == ("in force", "signed", ["enrolment", "verification"])
    assert "Consent at" in shell.run(*again)
    assert shell.json(*again, "--at", "2036-01-01T00:00:00.000Z", code=4)["verdict"] == "expired"
    (shell.folder / "changed.json").write_text(printed.replace("given", "grown"))
    assert shell.fails("consent", "verify", shell.path("changed.json"), "--device-key", device) == "trust.bad_signature"
    other = ("consent", "verify", shell.path("second.json"), "--device-key", "00" * 32)
    assert shell.fails(*other) == "trust.bad_signature"


def test_a_delegation_serves_an_offline_device(shell: Shell) -> None:
    key = shell.json("consent", "controller", "new-key", shell.path("c.skey"), "--name", "controller.example/c")["public_key"]
    (shell.folder / "policy.toml").write_text(f'require_controller_signature = true\ncontroller_key = "{key}"\n')
    device = shell.on_device("status")["public_key"]
    arguments = ("--key", shell.path("c.skey"), "--device-key", device, "--valid-for", "P90D", "--out", shell.path("d.json"))
    shell.json("consent", "controller", "delegate", *arguments)
    assert shell.fails(*shell.device, "consent", "install-delegation", shell.path("d.json")) == "consent.unknown_issuer"
    shell.on_device("consent", "policy", "set", shell.path("policy.toml"))
    assert shell.on_device("consent", "install-delegation", shell.path("d.json"))["controller"] == "controller.example/c"
    grant(shell, "alice")
    shell.on_device("consent", "export", "alice", "--out", shell.path("r.json"))
    verify = ("consent", "verify", shell.path("r.json"), "--device-key", device, "--controller-key", key, "--require-controller")
    assert shell.json(*verify)["controller"] == "signed by delegation"


def test_revocation_lists_from_the_shell(shell: Shell) -> None:
    key = shell.json("consent", "controller", "new-key", shell.path("i.skey"), "--name", "controller.example/r")["public_key"]
    (shell.folder / "policy.toml").write_text(f'[revocation]\nissuer = "{key}"\nmax_age = "P7D"\n')
    assert shell.on_device("consent", "revocations", "show")["issuer"] is None
    shell.on_device("consent", "policy", "set", shell.path("policy.toml"))
    grant(shell, "alice")
    shell.on_device("consent", "export", "alice", "--out", shell.path("r.json"))
    receipt = json.loads((shell.folder / "r.json").read_text())
    listing = ("--key", shell.path("i.skey"), "--valid-for", "P7D")
    (shell.folder / "none.json").write_text("{}")
    shell.json("consent", "controller", "revoke", shell.path("none.json"), *listing, "--out", shell.path("1.txt"))
    at = receipt["issued_at"]
    (shell.folder / "some.json").write_text(json.dumps({receipt["principal_id"]: {"at": at, "purposes": None}}))
    some = ("consent", "controller", "revoke", shell.path("some.json"), *listing)
    assert shell.json(*some, "--after", shell.path("1.txt"), "--out", shell.path("2.txt"))["epoch"] == 2
    shell.on_device("consent", "revocations", "import", shell.path("1.txt"))
    shown = shell.on_device("consent", "revocations", "show")
    assert (shown["epoch"], shown["dependent"], shown["stale"]) == (1, 1, 0)
    verify = ("consent", "verify", shell.path("r.json"), "--device-key", receipt["device_key"], "--issuer-key", key)
    assert shell.json(*verify, "--revocations", shell.path("1.txt"))["verdict"] == "in force"
    assert shell.json(*verify, "--revocations", shell.path("2.txt"), code=4)["verdict"] == "revoked"
    done = shell.on_device("consent", "revocations", "import", shell.path("2.txt"))
    assert (done["withdrawn"], done["erased"], done["is_new"]) == (1, 1, True)
    assert shell.fails(*shell.device, "consent", "show", "alice") == "consent.none"
    assert shell.fails(*shell.device, "consent", "revocations", "import", shell.path("1.txt")) == "consent.revocation_older"
    assert "No list" not in shell.run(*shell.device, "consent", "revocations", "show")
    (shell.folder / "bad.json").write_text('{"x": 1}')
    bad = ("consent", "controller", "revoke", shell.path("bad.json"), *listing, "--out", shell.path("3.txt"))
    assert shell.fails(*bad) == "consent.invalid_request"


def test_files_that_cannot_be_used_are_typed_errors(shell: Shell) -> None:
    grant(shell, "alice")
    for name in ("absent", "home"):
        assert shell.fails("consent", "verify", shell.path(name), "--device-key", "00" * 32) == "trust.malformed"
        assert shell.fails(*shell.device, "consent", "countersign", "alice", shell.path(name)) == "trust.malformed"
        assert shell.fails(*shell.device, "consent", "revocations", "import", shell.path(name)) == "trust.malformed"
        assert shell.fails(*shell.device, "consent", "policy", "set", shell.path(name)) == "consent.invalid_request"
    assert shell.fails("consent", "verify", shell.path("notice.txt"), "--device-key", "no key") == "trust.malformed"
    shell.run("consent", "verify", shell.path("notice.txt"), "--device-key", "00" * 32, "--require-controller", code=2)
    shell.run("consent", "verify", shell.path("notice.txt"), "--device-key", "00" * 32, "--at", "now", code=2)
    # A key that others can read is refused; a file that exists is not overwritten.
    shell.json("consent", "controller", "new-key", shell.path("c.skey"), "--name", "controller.example/c")
    shell.run("consent", "controller", "new-key", shell.path("c.skey"), "--name", "controller.example/c", code=2)
    (shell.folder / "c.skey").chmod(0o644)
    assert shell.fails("consent", "controller", "show-key", "--key", shell.path("c.skey")) == "trust.malformed"
    shell.run(*shell.device, "consent", "export", "alice", "--out", shell.path("notice.txt"), code=2)


def test_expired_consents_are_recorded_from_the_shell(shell: Shell) -> None:
    grant(shell, "alice")
    assert shell.on_device("consent", "expire")["expired"] == 0
