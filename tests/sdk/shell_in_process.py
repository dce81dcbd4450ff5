"""The command line without a process for each command: for tests with many of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from facekeep.cli import main


class InProcess:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.chdir(folder)
        monkeypatch.setenv("FACEKEEP_HOME", str(folder / "home"))
        monkeypatch.setenv("FACEKEEP_KEY_FILE", str(folder / "device.key"))

    def run(self, *arguments: str, code: int = 0) -> str:
        """Return what was printed, to standard output and after it to standard error."""
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["facekeep", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        said = self._capsys.readouterr()
        assert (caught.value.code or 0) == code, f"{arguments}: {said.out}{said.err}"
        return said.out + said.err

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        printed = self.run(*arguments, "--json", code=code)
        assert printed.count("\n") == 1, printed
        value = json.loads(printed)
        assert isinstance(value, dict)
        return value
