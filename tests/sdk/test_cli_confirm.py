"""The two-person rule as operators type it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from facekeep_models.simulation import DrawnPerson, draw_frame
from tests.sdk.shell_in_process import InProcess


def test_two_operators_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = InProcess(tmp_path, monkeypatch, capsys)
    (tmp_path / "notice.txt").write_text("Your face is compared on this device only.")
    for number in range(3):
        Image.fromarray(draw_frame(DrawnPerson(1), number, (240, 320)).pixels).save(tmp_path / f"{number}.png")
    shell.run("init")
    keys = {name: shell.json("operator", "new-key", f"{name}.key")["public_key"] for name in ("op-1", "op-2")}
    for name, key in keys.items():
        assert shell.json("operator", "add", name, key)["operator"] == name
    assert (tmp_path / "op-1.key").stat().st_mode & 0o777 == 0o600
    assert [item["operator"] for item in shell.json("operator", "list")["operators"]] == ["op-1", "op-2"]
    refused = shell.json("operator", "add", "Ann Smith", "00" * 32, code=17)
    assert refused["error"]["code"] == "confirmation.invalid_operator"
    assert shell.json("confirm", "rule", "2", "--term", "PT10M") == {"confirmations": 2, "term_seconds": 600}
    assert shell.json("confirm", "rule", "1", code=17)["error"]["code"] == "confirmation.invalid_policy"
    purposes = [item for purpose in ("enrolment", "identification") for item in ("--purpose", purpose)]
    shell.run("consent", "grant", "alice", "--notice", "notice.txt", *purposes, "--valid-for", "P30D")
    shell.run("enrol", "alice", "0.png", "1.png", "--detector", "drawn-detector", "--embedder", "drawn-embedder")
    done = shell.run("identify", "2.png", "--target-fpir", "0.05", code=17)
    assert "alice" not in done
    (waiting,) = shell.json("confirm", "list")["pending"]
    pending, commitment = waiting["id"], waiting["commitment"]
    assert re.search(rf"^id {pending}$", done, re.MULTILINE)
    for name in keys:
        early = shell.json("confirm", "open", pending, code=17)
        assert early["error"]["code"] == "confirmation.pending"
        signature = shell.json("operator", "sign", commitment, "--key", f"{name}.key")["signature"]
        assert name in shell.json("confirm", "give", pending, name, signature)["pending"]["confirmed_by"]
    opened = shell.json("confirm", "open", pending)
    assert (opened["outcome"], opened["subjects"], opened["operators"]) == ("identified", ["alice"], ["op-1", "op-2"])
    assert shell.json("confirm", "open", pending, code=17)["error"]["code"] == "confirmation.unknown"
    assert shell.run("operator", "remove", "op-1") == "Removed.\n"
    bad = shell.json("operator", "sign", commitment, "--key", "notice.txt", code=11)
    assert bad["error"]["code"] == "trust.malformed"
