"""Releases in our own log: logged before they are offered, proved to devices offline, gone on with after any interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from facekeep import PackStore
from facekeep.audit.entry import device_id
from facekeep.auditor import AuditPolicy
from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError, LogError
from facekeep.logfiles import audit_log
from facekeep.logfiles.web import LogAddress
from facekeep.protocol.release import ModelRelease, ReleaseBundle
from facekeep.signing import DeviceKey
from facekeep.submission import Patience
from facekeep.tlog import LogProof, TrustPolicy
from facekeep_server.federation import submitting
from facekeep_server.federation.candidates import Candidate
from facekeep_server.federation.coordinator import open_trail
from facekeep_server.federation.creation import load_policy, policy_toml, require_log
from facekeep_server.federation.files import replace_file
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.rounds import recorder
from facekeep_server.federation.submitting import enrol_coordinator, submit_trail
from facekeep_server.federation.trail import CoordinatorTrail
from facekeep_server.releases import proving
from facekeep_server.releases.contracts import ContractDescription
from facekeep_server.releases.evaluating import EvaluationCrops
from facekeep_server.releases.making import make_steered
from facekeep_server.releases.proving import log_published, log_release, until_logged
from facekeep_server.releases.publishing import publish_release
from facekeep_server.releases.ready import PROOF_FILE, require_ready
from tests.flows.log_servers import ORIGIN, RealServer, free_port, running_witness, witness_line
from tests.server.devices import TestDevice
from tests.server.test_releases_made import (  # noqa: F401
    AVERAGE,
    Setting,
    code_of,
    contract,
    crops,
    maker,
    open_device,
    packs,
)

WITNESS = DeviceKey(b"w" * 32)
PUBLIC = {"origin": ORIGIN, "commit_interval_ms": 1, "public_entries": True}
ONCE = Patience(attempts=1, first_seconds=0.0, sleep=lambda seconds: None)


@dataclass
class Logged:
    """A federation whose policy names a log, which a witness has to have seen; the coordinator believes the log alone."""

    setting: Setting
    server: RealServer
    port: int
    folder: Path

    @property
    def clock(self) -> ManualClock:
        return self.setting.fleet.clock

    @property
    def trust(self) -> str:
        return self.server.trust(f"{witness_line('w1.example', WITNESS, self.port)}quorum w1.example\n")

    def witness(self) -> Any:
        return running_witness(self.folder / "witness", "w1.example", WITNESS, self.server.trust(), self.port)

    def key(self) -> DeviceKey:
        return load_signing_key(self.setting.state.key_path("coordinator"))

    def trail(self) -> CoordinatorTrail:
        return open_trail(self.setting.state, self.clock)[0]

    def enrol(self) -> None:
        code = self.server.code("coordinator")
        enrol_coordinator(self.setting.state, self.key(), self.clock, self.server.url, code, self.server.trust())

    def candidate(self) -> Candidate:
        found = make_steered(self.setting.state, [self.setting.round()], AVERAGE)
        self.setting.make(found)
        return found

    def log(self, candidate: Candidate, patience: Patience = ONCE) -> None:
        state, lines = self.setting.state, self.setting.sign(candidate, 1, 3)
        log_release(state, require_ready(state, candidate, lines, self.clock.now()), self.trail(), self.key(), self.clock, patience)

    def publish(self, candidate: Candidate) -> Path:
        lines = self.setting.sign(candidate, 1, 3)
        return publish_release(self.setting.state, candidate, lines, self.clock.now(), recorder(self.trail()))

    def told(self) -> list[str]:
        """The digests that the trail says were published."""
        entries = [json.loads(body) for body in self.trail().entries]
        return [entry["details"]["release"] for entry in entries if entry["event"] == "release.published"]


@pytest.fixture
def logged(
    tmp_path: Path,
    packs: PackStore,  # noqa: F811
    crops: EvaluationCrops,  # noqa: F811
    contract: ContractDescription,  # noqa: F811
) -> Logged:
    setting = Setting(tmp_path, packs, crops, contract)
    found = Logged(setting, RealServer(tmp_path / "log", setting.fleet.clock, log=PUBLIC), free_port(), tmp_path)
    require_log(setting.state, found.trust)
    return found


@pytest.fixture
def running(logged: Logged) -> Iterator[Logged]:
    with logged.server.running(), logged.witness():
        logged.enrol()
        yield logged


def test_a_release_is_logged_in_our_own_log_and_a_device_adopts_it_offline(
    logged: Logged,
    packs: PackStore,  # noqa: F811
    tmp_path: Path,
) -> None:
    policy = load_policy(logged.setting.state)
    assert policy.coordinator == device_id(logged.key().public_bytes)
    with logged.server.running(), logged.witness():
        logged.enrol()
        candidate = logged.candidate()
        assert code_of(lambda: logged.publish(candidate)) == "release.not_logged"
        assert logged.told() == []
        logged.log(candidate)
        folder = logged.publish(candidate)
        # An auditor reads the whole log, and finds in it what the device was shown.
        rules = AuditPolicy.parse(f"facekeep_audit_policy = 1\ntrust = '''\n{logged.server.trust()}'''\n")
        proof = (folder / PROOF_FILE).read_bytes()
        verdict = audit_log(LogAddress(f"{logged.server.url}/log"), rules, logged.clock.now(), proofs=[proof])
        assert verdict.is_verified, verdict.render_text()
    # From here on neither log nor witness is there.
    data = (folder / "bundle").read_bytes()
    bundle = ReleaseBundle.parse(data)
    assert bundle.proof == proof
    with open_device(tmp_path / "one", packs, ManualClock(logged.clock.now())) as device:
        device.federation.join(policy)
        for wrong in (b"", proof[:-30], LogProof.parse(proof).checkpoint.encode()):
            forged = replace(bundle, proof=wrong).to_bytes()
            assert code_of(lambda forged=forged: device.federation.adopt(forged)) == "release.not_logged"
        receipt = device.federation.adopt(data)
        assert (receipt.version, [receipt.digest]) == (1, logged.told())
    with open_device(tmp_path / "two", packs, ManualClock(logged.clock.now())) as device:
        device.federation.join(replace(policy, coordinator="ab" * 16))
        assert code_of(lambda: device.federation.adopt(data)) == "release.not_logged"


class Killed(Exception):  # noqa: N818 - the power, not a program
    """The process ends here."""


# Where it may end: what is called there, and in which module.
PLACES = [
    (proving, "make_directory"),
    (submitting, "follow"),
    (submitting, "replace_file"),
    (proving, "submit_trail"),
    (proving, "have_witnessed"),
    (proving, "replace_file"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_point_it_goes_on_and_nothing_is_logged_twice(
    running: Logged, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    candidate = running.candidate()
    for module, name in PLACES:
        whole = getattr(module, name)

        def dying(*given: Any, whole: Callable[..., Any] = whole, **named: Any) -> None:
            if after:
                whole(*given, **named)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying)
            with pytest.raises(Killed):
                running.log(candidate)
        if not after or name != "replace_file" or module is not proving:
            assert code_of(lambda: running.publish(candidate)) == "release.not_logged"
    running.log(candidate)
    (digest,) = running.told()
    folder = running.publish(candidate)
    assert [ReleaseBundle.parse((folder / "bundle").read_bytes()).proof] == [(folder / PROOF_FILE).read_bytes()]
    assert digest == candidate_digest(candidate)
    assert submit_trail(running.setting.state, running.trail(), running.key(), running.clock).places == {digest: 3}


def candidate_digest(candidate: Candidate) -> str:
    return ModelRelease.parse((candidate.folder / "release").read_text()).digest


def test_without_a_log_the_command_to_run_is_named(logged: Logged) -> None:
    candidate = logged.candidate()
    with pytest.raises(FacekeepError, match=r"federate log --enrol") as caught:
        logged.log(candidate)
    assert caught.value.code == "release.not_logged"
    with pytest.raises(FacekeepError, match=r"federate release publish"):
        logged.publish(candidate)
    assert logged.told() == []


def test_it_waits_for_a_log_that_is_away_and_says_so_when_the_time_is_over(logged: Logged) -> None:
    with logged.server.running():
        logged.enrol()
    candidate, said, waited = logged.candidate(), [], []
    with ExitStack() as stack:

        def pause(seconds: float) -> None:
            waited.append(seconds)
            # First the log comes back, then its witness.
            if len(waited) in (2, 4):
                stack.enter_context(logged.server.running() if len(waited) == 2 else logged.witness())

        clock = iter(range(0, 1000, 5))
        until_logged(lambda: logged.log(candidate), 900, say=said.append, pause=pause, now=lambda: float(next(clock)))
        assert [line.partition(":")[0] for line in said] == ["log.unreachable"] * 2 + ["log.no_quorum"] * 2
        assert waited == [5.0, 10.0, 20.0, 30.0]
        logged.publish(candidate)
    second = logged.candidate()
    with pytest.raises(FacekeepError, match="same command again") as caught:
        until_logged(lambda: logged.log(second), 0, say=said.append, pause=pause)
    assert caught.value.code == "release.not_logged"


def test_what_does_not_pass_by_itself_is_not_waited_for(running: Logged) -> None:
    for code in ("log.fork", "log.stale", "log.bad_proof", "log.refused"):

        def caught_lying(code: str = code) -> None:
            raise LogError(code, "no")

        assert code_of(lambda caught_lying=caught_lying: until_logged(caught_lying, 60, say=print)) == code


def test_a_witness_that_is_ahead_by_now_does_not_hold_the_release_up_for_ever(logged: Logged) -> None:
    with logged.server.running():
        logged.enrol()
        candidate = logged.candidate()
        assert code_of(lambda: logged.log(candidate)) == "log.no_quorum"
        # Others go on writing, and have the witness see the log as it is then.
        import httpx

        device = TestDevice(bytes([7]) * 32, base=logged.server.url, clock=logged.clock)
        with logged.witness(), httpx.Client(base_url=logged.server.url, trust_env=False) as client:
            device.enrol(client, logged.server.code())
            answer = device.submit(client, device.write(5)).json()
            from facekeep.randomness import SystemRandomness
            from facekeep.submission import LogServer

            server, text = LogServer(logged.server.url, device.key, logged.clock, SystemRandomness(), ONCE), answer["checkpoint"]
            policy = TrustPolicy.parse(logged.trust)
            size = int(text.split("\n")[1])
            body = text.partition("\n\n")[0] + "\n"
            assert server.ask_witness(policy.urls["w1.example"], policy.witnesses["w1.example"], text, size, body) is not None
            logged.log(candidate)
        proof = LogProof.parse((logged.setting.state.root / "releases" / "00001" / PROOF_FILE).read_bytes())
    assert int(proof.checkpoint.split("\n")[1]) == size


def test_a_text_that_was_logged_is_not_made_anew_under_its_version(running: Logged) -> None:
    candidate = running.candidate()
    running.log(candidate)
    assert code_of(lambda: running.setting.make(candidate)) == "server.invalid_request"
    again = make_steered(running.setting.state, [1], AVERAGE)
    running.setting.make(again)
    assert (candidate.version, again.version) == (1, 2)
    running.log(again)
    running.publish(again)
    assert len(running.told()) == 2


def test_a_proof_of_another_release_or_of_another_policy_is_not_published(running: Logged) -> None:
    candidate = running.candidate()
    running.log(candidate)
    kept = running.setting.state.root / "releases" / "00001" / PROOF_FILE
    good = kept.read_bytes()
    kept.write_bytes(good[:-1])
    assert code_of(lambda: running.publish(candidate)) == "release.not_logged"
    # Logged again: the line is there already, and proved anew.
    running.log(candidate)
    assert len(running.told()) == 1
    # The devices' policy asks for another log than the coordinator's.
    stranger = running.trust.replace(running.server.vkey, load_policy(running.setting.state).planner_keys[0].to_vkey())
    require_log(running.setting.state, stranger)
    assert code_of(lambda: running.publish(candidate)) == "release.not_logged"
    assert code_of(lambda: running.log(candidate)) == "log.bad_signature"


def test_a_release_from_before_there_was_a_log_policy_is_proved_later(
    running: Logged,
    packs: PackStore,  # noqa: F811
    tmp_path: Path,
) -> None:
    state, trust = running.setting.state, running.trust
    with_log = load_policy(state)
    replace_file(state.root / "device" / "policy.toml", policy_toml(replace(with_log, log_policy=None, coordinator=None)))
    folder = running.publish(running.candidate())
    assert ReleaseBundle.parse((folder / "bundle").read_bytes()).proof == b""
    assert code_of(lambda: log_published(state, folder, running.trail(), running.key(), running.clock)) == "release.not_logged"
    require_log(state, trust)
    for _ in range(2):
        log_published(state, folder, running.trail(), running.key(), running.clock, ONCE)
    assert len(running.told()) == 1
    with open_device(tmp_path, packs, ManualClock(running.clock.now())) as device:
        device.federation.join(with_log)
        assert device.federation.adopt((folder / "bundle").read_bytes()).version == 1


def test_a_policy_with_a_log_comes_back_from_its_file(logged: Logged) -> None:
    policy = load_policy(logged.setting.state)
    assert policy.log_policy == logged.trust
    for text in (policy.log_policy, "# '" + "'" * 3 + ' "quoted" \\\n' + policy.log_policy, policy.log_policy.rstrip("\n")):
        changed = replace(policy, log_policy=text)
        assert type(policy).parse_toml(policy_toml(changed).decode()) == changed
    assert code_of(lambda: require_log(logged.setting.state, "quorum nobody\n")) == "federation.invalid_policy"
    assert load_policy(logged.setting.state) == policy
