"""The demo as a whole is run by hand; here, what it says when one of its processes fails."""

from __future__ import annotations

import sys

import pytest

from facekeep_server.errors import ServerError
from facekeep_server.federation.demo import run_part


def failing(code: str) -> str:
    with pytest.raises(ServerError) as caught:
        run_part([sys.executable, "-c", code])
    assert caught.value.code == "server.unavailable"
    return str(caught.value.args[0])


def test_a_part_that_fails_is_quoted_whichever_way_it_spoke() -> None:
    by_json = failing('print(\'{"error": {"code": "model.not_installed"}}\'); raise SystemExit(7)')
    assert "model.not_installed" in by_json
    assert "Traceback" not in by_json
    both = failing("print('{\"error\": 1}'); raise RuntimeError('broke')")
    assert '{"error": 1}' in both
    assert "RuntimeError: broke" in both
    assert failing("raise SystemExit(7)").endswith("exit status 7")


def test_a_part_that_works_is_its_last_line() -> None:
    assert run_part([sys.executable, "-c", "print('on the way'); print('{\"visits\": 3}')"]) == {"visits": 3}
