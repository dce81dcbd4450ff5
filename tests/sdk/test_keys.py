"""Key providers and the keystore: a key or a typed refusal, and never something weaker."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekeep.errors import FacekeepError, VaultError
from facekeep.keys import Anchor, KeyFile, Keystore, KeystoreSecrets, OSKeyring, Passphrase
from facekeep.keys.files import hold_directory, replace_private
from facekeep.keys.keystore import decode_keystore, encode_header, encode_keystore, parse_header, payload_key, split_keystore
from facekeep.randomness import SystemRandomness
from tests.sdk.vault_scenes import PASSPHRASE, SeededRandomness, fast_passphrase

keys32 = st.binary(min_size=32, max_size=32)


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(VaultError) as caught:
        action()
    return caught.value.code


def outcome(action: Callable[[], object]) -> object:
    """What an action returns, or the code of the error it raises."""
    try:
        return action()
    except FacekeepError as error:
        return error.code


# Passphrase


@pytest.mark.parametrize("text", ["", "       ", "seven77", "        "])
def test_a_weak_passphrase_is_refused(text: str) -> None:
    assert code_of(lambda: Passphrase(text)) == "vault.insecure_key"


def test_a_passphrase_that_is_not_text_is_refused() -> None:
    assert code_of(lambda: Passphrase("lone surrogate \ud800")) == "vault.insecure_key"


def test_the_same_passphrase_typed_on_two_keyboards_is_the_same_key() -> None:
    parameters = fast_passphrase().create()
    composed, decomposed = fast_passphrase("caf\u00e9 au lait"), fast_passphrase("cafe\u0301 au lait")
    assert (
        composed.master_key(parameters)
        == decomposed.master_key(parameters)
        != fast_passphrase("cafe au lait").master_key(parameters)
    )


def test_two_keystores_of_one_passphrase_have_two_keys() -> None:
    provider = fast_passphrase()
    assert provider.master_key(provider.create()) != provider.master_key(provider.create())


def test_the_default_cost_is_rfc_9106_s_second_choice() -> None:
    parameters = Passphrase(PASSPHRASE).create()
    assert (parameters["memory_kib"], parameters["iterations"], parameters["lanes"]) == (65536, 3, 4)
    assert len(Passphrase(PASSPHRASE).master_key(parameters)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": 2**31}, {"memory_kib": 1}, {"memory_kib": "65536"}, {"iterations": 10**9}, {"iterations": 0}, {"lanes": 0},
        {"lanes": 10**6}, {"salt": ""}, {"salt": "zz"}, {"salt": 5}, {"kdf": "md5"}, {"extra": 1},
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused_before_any_memory_is_taken(change: dict[str, str | int]) -> None:
    provider = fast_passphrase()
    assert code_of(lambda: provider.master_key({**provider.create(), **change})) == "vault.corrupt"


# Key file


def test_a_key_file_is_made_once_for_its_owner_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    parameters = KeyFile(path).create()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = KeyFile(path).master_key(parameters)
    assert KeyFile(path).create() == parameters
    assert KeyFile(path).master_key(parameters) == first
    assert path.read_bytes().startswith(b"facekeep-key-1 ")


@given(keys32)
def test_key_file_round_trip(key: bytes) -> None:
    assert KeyFile.parse(KeyFile.encode(key)) == key


def test_every_flipped_byte_of_a_key_file_is_another_key_or_refused() -> None:
    content = KeyFile.encode(SeededRandomness().token(32))
    for place in range(len(content)):
        for mask in (0x01, 0x20, 0x80):
            changed = bytes((*content[:place], content[place] ^ mask, *content[place + 1 :]))
            found = outcome(lambda changed=changed: KeyFile.encode(KeyFile.parse(changed)))
            assert found in ("vault.no_key", changed)


@pytest.mark.parametrize(
    "content", [b"", b"facekeep-key-1 ", b"facekeep-key-2 " + b"A" * 43 + b"=\n", b"A" * 5000, b"\xff" * 60, b"\0" * 32]
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert code_of(KeyFile(path).create) == "vault.no_key"
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "device.key"
    parameters = KeyFile(path).create()
    path.chmod(mode)
    assert code_of(lambda: KeyFile(path).master_key(parameters)) == "vault.insecure_key"


def test_a_link_a_directory_a_pipe_and_nothing_are_refused(tmp_path: Path) -> None:
    parameters = KeyFile(tmp_path / "real").create()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "directory").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    found = {
        name: code_of(lambda name=name: KeyFile(tmp_path / name).master_key(parameters))
        for name in ("link", "directory", "pipe", "none")
    }
    assert found == {"link": "vault.insecure_key", "directory": "vault.no_key", "pipe": "vault.no_key", "none": "vault.no_key"}
    # A link laid in wait must not decide where a new key is written.
    assert code_of(KeyFile(tmp_path / "dangling").create) == "vault.insecure_key"
    assert not (tmp_path / "elsewhere").exists()
    assert code_of(KeyFile(tmp_path / "no" / "such" / "directory").create) == "vault.io"


def test_parameters_of_another_provider_are_refused(tmp_path: Path) -> None:
    KeyFile(tmp_path / "key").create()
    assert code_of(lambda: KeyFile(tmp_path / "key").master_key({"format": "facekeep-key-9"})) == "vault.corrupt"


# Keyring


class Backend:
    """A keyring that keeps what it is given, or not."""

    def __init__(self, priority: object = 5, *, forgets: bool = False, breaks: Exception | None = None) -> None:
        self.priority = priority
        self.kept: dict[tuple[str, str], str] = {}
        self._forgets, self._breaks = forgets, breaks

    def get_password(self, service: str, username: str) -> str | None:
        if self._breaks:
            raise self._breaks
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self._forgets:
            self.kept[service, username] = password


def test_a_keyring_keeps_a_key() -> None:
    backend = Backend()
    parameters = OSKeyring(account="kiosk", backend=backend).create()
    key = OSKeyring(account="kiosk", backend=backend).master_key(parameters)
    assert len(key) == 32
    assert OSKeyring(account="kiosk", backend=backend).create() == parameters
    assert OSKeyring(account="kiosk", backend=backend).master_key(parameters) == key


@pytest.mark.parametrize(
    "backend",
    [
        Backend(0),
        Backend(-1),
        Backend(0.5),
        Backend("none"),
        Backend(forgets=True),
        Backend(breaks=RuntimeError("secret in the message")),
    ],
    ids=["fail", "null", "plain text", "odd", "forgets", "breaks"],
)
def test_an_unfit_keyring_is_refused_and_nothing_stands_in_for_it(backend: Backend) -> None:
    with pytest.raises(VaultError) as caught:
        OSKeyring(backend=backend).create()
    assert caught.value.code == "vault.no_key"
    assert "secret in the message" not in str(caught.value)
    assert not backend.kept


def test_a_locked_or_emptied_keyring_has_no_key() -> None:
    backend = Backend()
    parameters = OSKeyring(backend=backend).create()
    backend.kept[next(iter(backend.kept))] = "rubbish"
    assert code_of(lambda: OSKeyring(backend=backend).master_key(parameters)) == "vault.no_key"
    backend.kept.clear()
    assert code_of(lambda: OSKeyring(backend=backend).master_key(parameters)) == "vault.no_key"


def test_the_real_package_without_a_real_keyring_is_refused() -> None:
    keyring = pytest.importorskip("keyring")
    if keyring.get_keyring().priority >= 1:
        pytest.skip("this machine has a real keyring, and a test does not write into it")
    assert code_of(OSKeyring().create) == "vault.no_key"


# Keystore


def secrets(**change: object) -> KeystoreSecrets:
    base = KeystoreSecrets("ab" * 16, 2, {2: b"w" * 32, 3: b"x" * 32}, b"d" * 32, b"i" * 32, b"h" * 32, Anchor(7, 3, "cd" * 32))
    return replace(base, **change)  # type: ignore[arg-type]


@given(
    keys32,
    st.dictionaries(st.integers(1, 2**40), keys32, min_size=1, max_size=3),
    keys32,
    keys32,
    st.integers(0, 2**53 - 1),
    st.integers(),
)
def test_keystore_round_trip(master: bytes, wrap: dict[int, bytes], seed: bytes, index: bytes, counter: int, draw: int) -> None:
    held = KeystoreSecrets("ab" * 16, min(wrap), wrap, seed, index, seed, Anchor(counter, counter, None))
    header, key = encode_header("key-file", {"format": "facekeep-key-1"}), payload_key(master)
    data = encode_keystore(header, key, held, SeededRandomness(draw).token(12))
    assert decode_keystore(data, header, key) == held
    assert parse_header(split_keystore(data)[0]) == ("key-file", {"format": "facekeep-key-1"})


def make(path: Path) -> Keystore:
    return Keystore.create(path, fast_passphrase(), randomness=SystemRandomness())


def again(path: Path, provider: Passphrase | KeyFile | None = None) -> Keystore:
    return Keystore.open(path, provider or fast_passphrase(), randomness=SystemRandomness(), busy_timeout_seconds=0.05)


def test_a_keystore_opens_again_with_its_passphrase_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    made = make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again(path).secrets == made.secrets
    assert code_of(lambda: again(path, fast_passphrase("wrong horse battery"))) == "vault.wrong_key"
    key_file = KeyFile(tmp_path / "key")
    key_file.create()
    assert code_of(lambda: again(path, key_file)) == "vault.wrong_key"
    assert code_of(lambda: make(path)) == "vault.already_exists"


def test_every_flipped_byte_and_every_truncation_is_damage_not_a_wrong_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    make(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        # The version byte is looked at before the checksum: a newer layout may have another one.
        allowed = {"vault.newer_version", "vault.corrupt"} if place == 3 else {"vault.corrupt"}
        assert code_of(lambda: again(path)) in allowed, place
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert code_of(lambda: again(path)) == "vault.corrupt"
    path.write_bytes(whole + b"\0")
    assert code_of(lambda: again(path)) == "vault.corrupt"
    path.write_bytes(bytes(100_000))
    assert code_of(lambda: again(path)) == "vault.corrupt"
    path.unlink()
    assert code_of(lambda: again(path)) == "vault.corrupt"


def test_a_forged_header_with_a_right_checksum_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    made = make(path)
    _, parameters = parse_header(split_keystore(path.read_bytes())[0])
    forged = encode_header("passphrase", {**parameters, "iterations": 2})
    # The attacker re-seals nothing: it takes over the payload and puts a fresh checksum below.
    header, nonce, sealed = split_keystore(path.read_bytes())
    body = forged + nonce + len(sealed).to_bytes(4, "big") + sealed
    path.write_bytes(body + hashlib.sha256(body).digest())
    assert code_of(lambda: again(path)) == "vault.wrong_key"
    absurd = encode_header("passphrase", {**parameters, "memory_kib": 2**31})
    body = absurd + nonce + len(sealed).to_bytes(4, "big") + sealed
    path.write_bytes(body + hashlib.sha256(body).digest())
    assert code_of(lambda: again(path)) == "vault.corrupt"
    assert header != forged
    assert made.secrets.epoch == 1


def test_a_newer_keystore_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    make(path)
    path.write_bytes(b"FKK\x02" + path.read_bytes()[4:])
    assert code_of(lambda: again(path)) == "vault.newer_version"


def test_rotation_adds_settles_and_leaves_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    keystore = make(path)
    first = keystore.secrets.wrap_keys[1]
    second = keystore.add_wrap_key(2)
    assert again(path).secrets.wrap_keys == {1: first, 2: second}
    keystore.settle(2, Anchor(5, 1, "ab" * 32))
    assert again(path).secrets.wrap_keys == {2: second}
    assert again(path).secrets.epoch == 2
    assert again(path).secrets.anchor.counter == 5


def test_the_anchor_never_goes_back_and_a_late_settling_revives_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    late, quick = make(path), again(path)
    second = quick.add_wrap_key(2)
    quick.settle(2, Anchor(9, 9, "ab" * 32))
    late.settle(1, Anchor(4, 4, "cd" * 32))
    found = again(path).secrets
    assert (found.epoch, dict(found.wrap_keys), found.anchor.counter) == (2, {2: second}, 9)


def test_a_key_left_over_from_a_crash_is_discarded_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    keystore = make(path)
    left_over = keystore.add_wrap_key(2)
    assert keystore.add_wrap_key(2) != left_over
    keystore.settle(1, Anchor())
    assert set(again(path).secrets.wrap_keys) == {1, 2}, "another process may be in the middle of a rotation"
    keystore.settle(1, Anchor(), discard_later=True)
    assert set(again(path).secrets.wrap_keys) == {1}


def test_the_old_content_is_overwritten_where_it_lay(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    path.write_bytes(b"old and secret")
    os.link(path, tmp_path / "the same blocks")
    replace_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert (tmp_path / "the same blocks").read_bytes() == bytes(len(b"old and secret"))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["keys.fkk", "the same blocks"]


def test_a_temporary_file_left_by_a_crash_is_in_nobody_s_way(tmp_path: Path) -> None:
    path = tmp_path / "keys.fkk"
    keystore = make(path)
    (tmp_path / ".keys.fkk.new").write_bytes(b"half")
    keystore.add_wrap_key(2)
    assert set(again(path).secrets.wrap_keys) == {1, 2}


def test_a_directory_held_by_another_is_busy(tmp_path: Path) -> None:
    make(tmp_path / "keys.fkk")
    other = again(tmp_path / "keys.fkk")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with hold_directory(tmp_path, 1.0):
            held.set()
            done.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(5)
        assert code_of(lambda: other.add_wrap_key(2)) == "vault.busy"
    finally:
        done.set()
        thread.join()
    other.add_wrap_key(2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise_anything_else(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "keys.fkk"
    path.write_bytes(data)
    with pytest.raises(FacekeepError):
        again(path)


def test_nothing_secret_in_a_repr(tmp_path: Path) -> None:
    keystore = make(tmp_path / "keys.fkk")
    key_file = KeyFile(tmp_path / "hidden-place")
    shown = " ".join(map(repr, (fast_passphrase(), key_file, OSKeyring("svc", "acct"), keystore, keystore.secrets, secrets())))
    for secret in (
        PASSPHRASE,
        "hidden-place",
        "acct",
        keystore.secrets.head_key.hex(),
        str(keystore.secrets.head_key),
        "wwww",
        "dddd",
    ):
        assert secret not in shown
