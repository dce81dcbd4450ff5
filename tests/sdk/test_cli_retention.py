"""`facekeep retention` and `facekeep erasure` as a user types them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from tests.sdk.test_cli import CONSENT, Shell
from tests.sdk.test_retention import TOML


@pytest.fixture
def prepared(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    (tmp_path / "notice.txt").write_text("Your face is compared on this device only.")
    (tmp_path / "policy.toml").write_text(TOML)
    (tmp_path / "short.toml").write_text(TOML.replace("P400D", "P182D"))
    return shell


def test_retention_and_erasure_from_the_shell(prepared: Shell) -> None:
    shell, folder = prepared, prepared.folder
    public_key = shell.json("init")["public_key"]
    shell.json("consent", "grant", "alice", *CONSENT)
    assert shell.json("retention", "plan", code=15)["error"]["code"] == "retention.no_policy"
    refused = shell.json("retention", "adopt", "short.toml", code=15)["error"]
    assert refused["code"] == "retention.invalid_policy"
    assert "183 days" in refused["message"]
    assert len(shell.json("retention", "adopt", "policy.toml")["policy"]) == 64
    assert "0 due now" in shell.run("retention", "plan").stdout
    ran = shell.json("retention", "run", "--certificate", "certificate.json")
    assert shell.json("retention", "certificate")["certificate"] == ran["certificate"]
    checked = shell.json("retention", "verify", "certificate.json", "--public-key", public_key)
    assert checked["sha256"] == ran["sha256"]
    shell.json("retention", "verify", "certificate.json", "--public-key", "00" * 32, code=15)
    assert shell.json("erasure", "verify", "alice", code=16)["error"]["code"] == "erasure.not_erased"
    erased = shell.json("withdraw", "alice", "--receipt", "receipt.json")
    assert shell.json("erasure", "receipt", "receipt.json", "--public-key", public_key) == erased
    assert "Clean" in shell.run("erasure", "verify", "alice", "--receipt", "receipt.json").stdout
    (copies := folder / "copies").mkdir()
    (copies / "dump.txt").write_text("user=alice blob=" + base64.b64encode(os.urandom(512)).decode())
    found = shell.json("erasure", "verify", "alice", "--also", "copies", code=16)
    assert found["verdict"] == "residue"
    assert {finding["trace"] for finding in found["findings"]} == {"name", "dense-blob"}
    (folder / "receipt.json").write_text(json.dumps(erased | {"references": 5}))
    assert shell.json("erasure", "verify", "--receipt", "receipt.json", code=16)["error"]["code"] == "erasure.invalid_receipt"
