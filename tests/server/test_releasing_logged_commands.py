"""A release in our own log as an operator has it: `trust-policy`, `federate log-policy`, `log --enrol`, `release publish`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from typer.testing import CliRunner

from facekeep import PackStore
from facekeep.clock import ManualClock
from facekeep.tlog import TrustPolicy
from facekeep_server.cli import federated_log, releasing
from facekeep_server.cli.app import app
from facekeep_server.cli.running import witness_lines
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.contracts import ContractDescription
from facekeep_server.releases.evaluating import EvaluationCrops
from facekeep_server.releases.making import make_steered
from tests.flows.log_servers import ORIGIN, RealServer
from tests.server.federation_setting import NOW
from tests.server.test_releases_made import AVERAGE, Setting, contract, crops, maker, open_device, packs  # noqa: F401

# Of what Flower builds its app with.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


def invoke(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["federate", *map(str, words), "--json"], catch_exceptions=True)
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout) if code == 0 else f"{result.output} {result.exception}"


def trust_of(server: RealServer, folder: Path, **sections: str) -> str:
    """What `facekeep-server trust-policy` prints, with the configuration that an operator would write."""
    more = "".join(f"[{name}]\n{line}\n" for name, line in sections.items())
    (folder / "server.toml").write_text(
        f'[store]\ndatabase = "sqlite:///{server.folder}/log.sqlite3"\nkeys = "{server.folder}/keys"\n'
        f'[http]\npublic_url = "{server.url}"\n[log]\norigin = "{ORIGIN}"\n{more}'
    )
    done = CliRunner().invoke(app, ["--config", str(folder / "server.toml"), "trust-policy"])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_a_release_goes_through_the_log_on_its_way_to_devices(
    tmp_path: Path,
    packs: PackStore,  # noqa: F811
    crops: EvaluationCrops,  # noqa: F811
    contract: ContractDescription,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = Setting(tmp_path / "fleet", packs, crops, contract)
    root, clock = setting.state.root, setting.fleet.clock
    for module in (releasing, federated_log):
        monkeypatch.setattr(module, "SystemClock", lambda: clock)
    server = RealServer(tmp_path / "log", clock)
    trust = tmp_path / "trust.txt"
    trust.write_text(trust_of(server, tmp_path))
    assert trust.read_text() == server.trust()
    made = invoke("log-policy", trust, "--state", root)
    policy = load_policy(setting.state)
    assert (made["coordinator"], made["policy"], policy.log_policy) == (policy.coordinator, policy.sha256, server.trust())
    candidate = make_steered(setting.state, [setting.round()], AVERAGE)
    setting.make(candidate)
    signatures = []
    for number, line in enumerate(setting.sign(candidate, 1, 2), 1):
        signatures.append(tmp_path / f"signature-{number}")
        signatures[-1].write_text(line)
    publish = ["release", "publish", *signatures, "--state", root, "--wait-minutes", 0]
    assert "federate log --enrol" in invoke(*publish, code=1)
    with server.running():
        (tmp_path / "code").write_text(server.code("coordinator"))
        invoke("log", "--enrol", server.url, "--code-file", tmp_path / "code", "--policy", trust, "--state", root)
        found = invoke(*publish)
        assert invoke("release", "log", 1, "--state", root) == {"bundle": found["bundle"]}
        assert "server.invalid_request" in invoke("release", "log", 7, "--state", root, code=1)
    with open_device(tmp_path, packs, ManualClock(clock.now())) as device:
        device.federation.join(policy)
        assert device.federation.adopt(Path(found["bundle"]).read_bytes()).version == 1


def test_a_federation_is_made_with_a_log(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "log", ManualClock(NOW))
    trust = tmp_path / "trust.txt"
    trust.write_text(server.trust())
    common = ["--name", "fleet.example.org", "--superlink", "fleet.example.org:8443"]
    invoke("init", "--state", tmp_path / "fleet", *common, "--log-policy", trust)
    policy = load_policy(FederationState.open(tmp_path / "fleet"))
    assert policy.log_policy == server.trust()
    assert policy.coordinator is not None
    # Devices get it with their kit.
    invoke("kit", "gate-1", "--state", tmp_path / "fleet")
    assert policy.coordinator in (tmp_path / "fleet" / "kits" / "gate-1" / "policy.toml").read_text()
    trust.write_bytes(b"log \xff\n")
    assert "server.invalid_request" in invoke("init", "--state", tmp_path / "other", *common, "--log-policy", trust, code=1)
    trust.write_text("quorum nobody\n")
    assert "federation.invalid_policy" in invoke("init", "--state", tmp_path / "third", *common, "--log-policy", trust, code=1)


def test_the_servers_own_policy_names_its_keys_and_its_witnesses(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "log", ManualClock(NOW))
    witnesses = tmp_path / "witnesses.policy"
    text = server.trust().replace("quorum none\n", "") + "witness n n.example+1+AA== https://n.example\nquorum n\n"
    assert witness_lines(text) == ["witness n n.example+1+AA== https://n.example", "quorum n"]
    from facekeep.signing import DeviceKey
    from tests.flows.log_servers import witness_line

    witnesses.write_text(f"{witness_line('n.example', DeviceKey(bytes(32)), 1)}quorum n.example\n")
    printed = trust_of(server, tmp_path, witnesses=f'policy = "{witnesses}"')
    found = TrustPolicy.parse(printed)
    assert ([key.to_vkey() for key in found.logs], found.quorum) == ([server.vkey], "n.example")
