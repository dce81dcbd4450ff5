"""The device's ClientApp: which device it opens, and what may travel when something goes wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from facekeep import Device, KeyFile, Passphrase
from facekeep.errors import FederationError, VaultError
from facekeep.flower.answering import answer_message
from facekeep.flower.client import make_client_app
from facekeep.flower.envelope import LARGEST_BODY, MESSAGE_TYPE, RECORD, pack_request, unpack_reply
from facekeep.flower.opening import open_device
from facekeep.protocol import Challenge, Refusal


@pytest.fixture(autouse=True)
def identity() -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 0, 1, 0


def context(**node_config: str) -> Context:
    return Context(0, 1, dict(node_config), RecordDict(), {"facekeep-home": "/chosen/by/the/server"})


def message(content: RecordDict) -> Message:
    return Message(content, dst_node_id=1, message_type=MESSAGE_TYPE, ttl=60.0)


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def handle(self, action: str, body: bytes) -> bytes:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return bytes(self.answer)


def ask(answer: Any, content: RecordDict | None = None) -> bytes:
    @contextlib.contextmanager
    def opening(given: Context) -> Iterator[Answers]:
        yield Answers(answer)

    return answer_message(message(pack_request("hello", b"x") if content is None else content), context(), opening)


def test_what_goes_wrong_travels_as_a_code_alone() -> None:
    assert ask(b"answer") == b"answer"
    secret = "Ann-Sofie Lindqvist"
    assert Refusal.parse(ask(FederationError("federation.expired", secret))).code == "federation.expired"
    for error in (RuntimeError(secret), MemoryError(secret), KeyError(secret), AssertionError(secret)):
        body = ask(error)
        assert Refusal.parse(body).code == "federation.aborted"
        assert secret.encode() not in body
    assert Refusal.parse(ask(b"x" * (LARGEST_BODY + 1))).code == "federation.aborted"


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"action": "hello", "body": b""})}),
        RecordDict({RECORD: ConfigRecord({"action": "hello"})}),
        RecordDict({RECORD: ConfigRecord({"action": "HELLO", "body": b""})}),
        RecordDict({RECORD: ConfigRecord({"action": "x" * 17, "body": b""})}),
        RecordDict({RECORD: ConfigRecord({"action": "hello", "body": "text"})}),
        RecordDict({RECORD: ConfigRecord({"action": "hello", "body": b"", "home": "/elsewhere"})}),
    ],
)
def test_a_message_of_another_shape_is_refused(content: RecordDict) -> None:
    assert Refusal.parse(ask(b"answer", content)).code == "federation.malformed"


def make_device(folder: Path) -> tuple[Path, Path]:
    with Device.open(folder / "home", key=KeyFile(folder / "key"), mode="create"):
        return folder / "home", folder / "key"


def test_the_device_is_named_by_its_own_machine(tmp_path: Path) -> None:
    home, key = make_device(tmp_path)
    for node_config, environment in (
        ({"facekeep-home": str(home), "facekeep-key-file": str(key)}, {}),
        ({}, {"FACEKEEP_HOME": str(home), "FACEKEEP_KEY_FILE": str(key)}),
        ({"facekeep-key-file": str(key)}, {"FACEKEEP_HOME": str(home)}),
    ):
        with open_device(node_config, environment) as device:
            assert device.info().vault_id
    # The run's configuration names a home, too: it is the server's word.
    answer = make_client_app()(message(pack_request("hello", Challenge("fleet", bytes(32)).to_bytes())), context())
    assert Refusal.parse(unpack_reply(answer)).code in ("vault.not_found", "vault.no_key")


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({}, "vault.not_found"),
        ({"FACEKEEP_HOME": "HOME"}, "vault.no_key"),
        ({"FACEKEEP_HOME": "HOME", "FACEKEEP_KEY_FILE": "KEY", "FACEKEEP_KEYRING": "me"}, "vault.no_key"),
        ({"FACEKEEP_HOME": "HOME/absent", "FACEKEEP_KEY_FILE": "KEY"}, "vault.not_found"),
        ({"FACEKEEP_HOME": "HOME", "FACEKEEP_PASSPHRASE_FILE": "HOME/absent"}, "vault.no_key"),
    ],
)
def test_a_device_is_never_made_or_guessed(tmp_path: Path, environment: dict[str, str], code: str) -> None:
    home, key = make_device(tmp_path)
    named = {name: value.replace("HOME", str(home)).replace("KEY", str(key)) for name, value in environment.items()}
    with pytest.raises(VaultError) as caught:
        open_device({}, named)
    assert caught.value.code == code


def test_a_passphrase_comes_from_a_file_of_its_owner_only(tmp_path: Path) -> None:
    weak = Passphrase("correct horse battery", memory_kib=8 * 1024, iterations=1)
    with Device.open(tmp_path / "home", key=weak, mode="create"):
        pass
    path = tmp_path / "passphrase"
    path.write_text("correct horse battery\n")
    named = {"FACEKEEP_HOME": str(tmp_path / "home"), "FACEKEEP_PASSPHRASE_FILE": str(path)}
    path.chmod(0o644)
    with pytest.raises(VaultError) as caught:
        open_device({}, named)
    assert caught.value.code == "vault.insecure_key"
    path.chmod(0o600)
    with open_device({}, named) as device:
        assert device.info().vault_id


def test_a_real_device_says_who_it_is_and_one_without_a_federation_does_not(tmp_path: Path) -> None:
    home, key = make_device(tmp_path)
    where = {"facekeep-home": str(home), "facekeep-key-file": str(key)}
    asked = message(pack_request("hello", Challenge("fleet", bytes(32)).to_bytes()))
    assert Refusal.parse(unpack_reply(make_client_app()(asked, context(**where)))).code == "federation.not_joined"
