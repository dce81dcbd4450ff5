"""An auditor far away: the whole log of a server that serves, with a token, as fast as the server permits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from facekeep.auditor import AuditPolicy
from facekeep.clock import ManualClock
from facekeep.errors import LogError
from facekeep.logfiles import audit_log
from facekeep.logfiles.web import LogAddress
from facekeep.tlog.tiles import ENTRIES, Tile
from facekeep_server.access.roles import Role
from facekeep_server.assembly import Server
from tests.flows.log_servers import Liar, http
from tests.sdk.shell_in_process import InProcess
from tests.server.conftest import served
from tests.server.devices import TestDevice

HOUR = timedelta(hours=1)


def filled(server: Server, client: httpx.Client, clock: ManualClock) -> str:
    """A log of some hundred entries; return the policy it is audited by."""
    device = TestDevice(bytes([7]) * 32, clock=clock)
    device.enrol(client, server.codes.create("gate", HOUR)[0])
    for _ in range(3):
        assert device.submit(client, device.write(200)).status_code == 200
    vkeys = "".join(f"log {row.key.to_vkey()}\n" for row in server.keys.list())
    return f"facekeep_audit_policy = 1\ntrust = '''\n{vkeys}quorum none\n'''\n"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_served_log_is_audited_with_a_token_and_at_the_pace_the_server_sets(
    make_server: Callable[..., Server], clock: ManualClock
) -> None:
    slow = {"peer_requests_per_second": 1e6, "token_requests_per_second": 1.0, "burst_seconds": 1}
    server = make_server(limits=slow)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        time.sleep(seconds)

    with served(server) as client:
        policy = AuditPolicy.parse(filled(server, client, clock))
        token = server.tokens.create(Role.AUDITOR, "auditor", HOUR)[0]
        address = LogAddress(f"{client.base_url}/log", token=token, sleep=sleep)
        assert token not in repr(address)
        verdict = audit_log(address, policy, clock.now() + HOUR)
        assert {code for code in verdict.counts if code.startswith("log.")} == set(), verdict.render_text()
        assert verdict.size == server.reader.head().size
        assert pauses
        assert set(pauses) == {1.0}, "as long as the server asked"
        for other in (None, "fkt-wrong", server.tokens.create(Role.ADMINISTRATOR, "admin", HOUR)[0]):
            with pytest.raises(LogError, match="only to auditors"):
                LogAddress(f"{client.base_url}/log", token=other).read_tile(Tile(ENTRIES, 0))
        assert LogAddress(f"{client.base_url}/log").read_tile(Tile(0, 0)), "hashes are for everyone"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_command_takes_the_token_from_a_file(
    make_server: Callable[..., Server],
    clock: ManualClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server, shell = make_server(), InProcess(tmp_path, monkeypatch, capsys)
    with served(server) as client:
        (tmp_path / "policy.toml").write_text(filled(server, client, clock))
        (tmp_path / "token").write_text(server.tokens.create(Role.AUDITOR, "auditor", HOUR)[0] + "\n")
        log = f"{client.base_url}/log"
        with_token = ("audit", "verify", log, "--policy", "policy.toml", "--token-file", "token")
        # The device of this test only verifies, without consents: that is what the policy finds, and all it finds.
        verdict = json.loads(shell.run(*with_token, "--json", code=10).splitlines()[0])
        assert (verdict["size"], set(verdict["counts"])) == (server.reader.head().size, {"audit.violation"})
        without = json.loads(shell.run(*with_token[:-2], "--json", code=10).splitlines()[0])
        assert "log.unreachable" in without["counts"]
        shell.json("audit", "verify", str(tmp_path), "--policy", "policy.toml", "--token-file", "token", code=2)


def test_a_log_that_is_busy_is_asked_again_and_not_for_ever() -> None:
    pauses: list[float] = []
    busy, soon = http(503, b"", "Retry-After: 7"), http(429, b"", "Retry-After: 99999")
    with Liar(busy, soon, http(429, b""), http(200, bytes(32))) as liar:
        assert LogAddress(liar.url, sleep=pauses.append).read_tile(Tile(0, 0, 1)) == bytes(32)
        assert pauses == [7, 30, 1]
    with Liar(busy) as liar, pytest.raises(LogError) as caught:
        LogAddress(liar.url, sleep=pauses.append).read_checkpoint()
    assert (caught.value.code, liar.asked) == ("log.unreachable", 8)
    for token in ("", "two words", "new\nline", "é"):
        with pytest.raises(LogError) as caught:
            LogAddress(liar.url, token=token)
        assert caught.value.code == "log.malformed"
