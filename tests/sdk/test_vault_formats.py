"""The worked examples of docs/formats are what the code writes: run this file as a program to print them."""

import hashlib
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head, verify_trail
from facekeep.audit.trail import trail_origin
from facekeep.canonical import to_canonical
from facekeep.keys import Anchor, KeyFile, KeystoreSecrets
from facekeep.keys.keystore import decode_keystore, encode_header, encode_keystore, payload_key
from facekeep.merkle import leaf_hash
from facekeep.note import verifier_key
from facekeep.sealing import DataKeyContext, FeaturesContext, SampleContext, TemplateContext, seal, unseal
from facekeep.signing import DeviceKey
from facekeep.vault.head import VaultHead, _mac
from facekeep.vault.store import APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from facekeep.vault.subjects import index_tag, seal_subject
from facekeep.vault.tables import Tables, record_leaf

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats"
KEY = bytes(range(32))


class Counting:
    """Bytes that count up from a0, to be recognised in a dump."""

    def token(self, size: int) -> bytes:
        return bytes((0xA0 + number) % 256 for number in range(size))


def held() -> KeystoreSecrets:
    return KeystoreSecrets("5e" * 16, 1, {1: b"\x01" * 32}, b"\x07" * 32, b"\x02" * 32, b"\x03" * 32, Anchor(2, 1, "cd" * 32))


def context() -> TemplateContext:
    return TemplateContext("ab" * 32, "enrolment", "c0" * 32, "urn:uuid:c", "float32", 4, "urn:uuid:r", 1_795_262_400_000_000)


def dump(data: bytes) -> str:
    return "\n".join(textwrap.wrap(data.hex(), 96))


def envelope_example() -> list[str]:
    plaintext = np.full(4, 0.5, "<f4").tobytes()
    features = FeaturesContext(context(), "ba" * 32, 2, 2)
    sample = SampleContext(
        "ab" * 32, "federated-training", "ba" * 32, "night", 2, "urn:uuid:c", "urn:uuid:s", 1_795_262_400_000_000
    )
    return [
        dump(KEY),
        dump(plaintext),
        dump(context().associated_data()),
        dump(seal(KEY, plaintext, context(), Counting())),
        dump(features.associated_data()),
        dump(seal(KEY, plaintext, features, Counting())),
        dump(sample.associated_data()),
    ]


def keystore_example() -> list[str]:
    header = encode_header("key-file", {"format": "facekeep-key-1"})
    whole = encode_keystore(header, payload_key(KEY), held(), Counting().token(12))
    assert decode_keystore(whole, header, payload_key(KEY)) == held()
    return [KeyFile.encode(KEY).decode().strip(), dump(payload_key(KEY)), held().to_bytes().decode(), dump(header), dump(whole)]


def vault_example() -> list[str]:
    opened, row = seal_subject(held(), 1, 0, "alice", Counting())
    head = VaultHead("5e" * 16, 1, 0, 0, Tables.empty().fingerprints(), 0, None)
    return [
        *(f"CREATE TABLE {name}({columns})" for name, columns in SCHEMA.items()),
        f"{APPLICATION_ID:#x}",
        f"user_version {SCHEMA_VERSION}",
        dump(index_tag(held(), "alice")),
        opened.handle.principal_id,
        opened.handle.commitment,
        dump(DataKeyContext("5e" * 16, opened.tag, 1).associated_data()),
        dump(row[3]),
        dump(row[4]),
        dump(record_leaf("subjects", *row)),
        head.to_bytes().decode(),
        dump(_mac(held().head_key, b"facekeep vault head v1\n", head.to_bytes())),
    ]


def trail_example() -> list[str]:
    key, head, entries = DeviceKey(b"\x07" * 32), TrailHead(), []
    start = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    for event in (
        AuditEvent("vault.created", details={"provider": "key-file"}),
        AuditEvent("verification", subject="ab" * 32, details={"match": True}),
    ):
        body, head = append_event(head, event, start)
        entries.append(body)
    note = sign_head(head, key)
    verify_trail(entries, note, key.public_bytes)
    vkey = verifier_key(trail_origin(key.public_bytes), key.public_bytes)
    return [*(body.decode() for body in entries), *(leaf_hash(body).hex() for body in entries), note.strip(), vkey]


EXAMPLES = {"envelope": envelope_example, "keystore": keystore_example, "vault": vault_example, "trail": trail_example}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_worked_example_is_what_the_code_writes(name: str) -> None:
    page = (FORMATS / f"{name}.md").read_text(encoding="utf-8")
    for piece in EXAMPLES[name]():
        assert piece in page, f"docs/formats/{name}.md does not show:\n{piece}"


def test_the_worked_envelope_opens() -> None:
    envelope = bytes.fromhex("".join(envelope_example()[3].split()))
    assert unseal(KEY, envelope, context()) == np.full(4, 0.5, "<f4").tobytes()


def test_a_record_is_hashed_with_the_length_of_every_column() -> None:
    # The reference for record_leaf: spelled out, and different when a byte moves from one column into the next.
    expected = hashlib.sha256(b"\x00settings" + b"\0\0\0\x08" + (3).to_bytes(8, "big") + b"\0\0\0\x01a" + b"\0\0\0\x02bc").digest()
    assert record_leaf("settings", 3, b"a", b"bc") == expected != record_leaf("settings", 3, b"ab", b"c")


def test_the_head_is_canonical_and_reads_back() -> None:
    head = VaultHead("5e" * 16, 3, 9, 4, Tables.empty().fingerprints(), 2, "ab" * 32)
    assert VaultHead.parse(head.to_bytes()) == head
    assert to_canonical({"v": SCHEMA_VERSION})[1:-1] in head.to_bytes()


if __name__ == "__main__":
    for name, example in EXAMPLES.items():
        print(f"== {name}")
        print("\n--\n".join(example()))
