"""`facekeep retention` and `facekeep erasure` as a user types them, in this process."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from facekeep.cli import main
from tests.sdk.test_cli import CONSENT
from tests.sdk.test_retention import TOML


class Terminal:
    """The command line without the cost of a process for each command."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)
        monkeypatch.setenv("FACEKEEP_HOME", str(folder / "home"))
        monkeypatch.setenv("FACEKEEP_KEY_FILE", str(folder / "device.key"))
        monkeypatch.setenv("COLUMNS", "200")

    def run(self, *arguments: str, code: int = 0) -> str:
        self._monkeypatch.setattr(sys, "argv", ["facekeep", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, f"{arguments}: {said.out}{said.err}"
        return said.out

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        value = json.loads(self.run(*arguments, "--json", code=code))
        assert isinstance(value, dict)
        return value


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    (tmp_path / "notice.txt").write_text("Your face is compared on this device only.")
    (tmp_path / "policy.toml").write_text(TOML)
    (tmp_path / "short.toml").write_text(TOML.replace("P400D", "P182D"))
    return Terminal(tmp_path, monkeypatch, capsys)


def test_retention_and_erasure_from_the_shell(prepared: Terminal) -> None:
    shell, folder = prepared, prepared.folder
    public_key = shell.json("init")["public_key"]
    shell.json("consent", "grant", "alice", *CONSENT)
    assert shell.json("retention", "plan", code=15)["error"]["code"] == "retention.no_policy"
    refused = shell.json("retention", "adopt", "short.toml", code=15)["error"]
    assert refused["code"] == "retention.invalid_policy"
    assert "183 days" in refused["message"]
    assert len(shell.json("retention", "adopt", "policy.toml")["policy"]) == 64
    assert "0 due now" in shell.run("retention", "plan")
    ran = shell.json("retention", "run", "--certificate", "certificate.json")
    assert shell.json("retention", "certificate")["certificate"] == ran["certificate"]
    checked = shell.json("retention", "verify", "certificate.json", "--public-key", public_key)
    assert checked["sha256"] == ran["sha256"]
    shell.json("retention", "verify", "certificate.json", "--public-key", "00" * 32, code=15)
    assert shell.json("erasure", "verify", "alice", code=16)["error"]["code"] == "erasure.not_erased"
    erased = shell.json("withdraw", "alice", "--receipt", "receipt.json")
    assert shell.json("erasure", "receipt", "receipt.json", "--public-key", public_key) == erased
    assert "Clean" in shell.run("erasure", "verify", "alice", "--receipt", "receipt.json")
    (copies := folder / "copies").mkdir()
    (copies / "dump.txt").write_text("user=alice blob=" + base64.b64encode(os.urandom(512)).decode())
    found = shell.json("erasure", "verify", "alice", "--also", "copies", code=16)
    assert found["verdict"] == "residue"
    assert {finding["trace"] for finding in found["findings"]} == {"name", "dense-blob"}
    (folder / "receipt.json").write_text(json.dumps(erased | {"references": 5}))
    assert shell.json("erasure", "verify", "--receipt", "receipt.json", code=16)["error"]["code"] == "erasure.invalid_receipt"
