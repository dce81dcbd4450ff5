"""Notes, keys, cosignatures, policies, tiles and proofs of logs, against the texts of C2SP and against damage."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.errors import LogError
from facekeep.merkle import leaf_hash
from facekeep.note import Checkpoint, sign_note, verifier_key
from facekeep.signing import DeviceKey
from facekeep.tlog import (
    LogProof,
    NoteKey,
    NoteKind,
    SignedNote,
    Tile,
    TrustPolicy,
    cosign,
    make_inclusion,
    pack_bundle,
    parse_tile_path,
    tiles_of,
    unpack_bundle,
    verify_proof,
)
from facekeep.tlog.tiles import ENTRIES, bundles_of
from facekeep.tlog.tree import TileHashes, TileTree

LOG = DeviceKey(b"\x01" * 32)
WITNESSES = [DeviceKey(bytes([number]) * 32) for number in range(2, 5)]
ORIGIN = "log.example/one"
NAMES = ["w1.example", "w2.example", "w3.example"]

# https://c2sp.org/tlog-cosignature, the example at its head
C2SP_COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZ"
    "qhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
# https://c2sp.org/signed-note, the example at its head: an empty line inside the text
C2SP_POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)


def log_vkey() -> str:
    return verifier_key(ORIGIN, LOG.public_bytes)


def witness_key(number: int) -> NoteKey:
    return NoteKey(NAMES[number], NoteKind.COSIGNATURE, WITNESSES[number].public_bytes)


def policy_text(quorum: str = "group two 2 a b c\nquorum two\n") -> str:
    lines = [f"log {log_vkey()} https://log.example/one"]
    lines += [f"witness {name} {witness_key(number).to_vkey()}" for number, name in enumerate("abc")]
    return "\n".join(lines) + "\n" + quorum


def checkpoint_note(size: int = 3, root: bytes = b"\x05" * 32, *, witnesses: tuple[int, ...] = (0, 1)) -> str:
    note = SignedNote.parse(sign_note(Checkpoint(ORIGIN, size, root).to_text(), ORIGIN, LOG))
    lines = [cosign(note.text, NAMES[number], WITNESSES[number], 1_700_000_000 + number) for number in witnesses]
    return note.with_signatures(*lines).to_text()


def code_of(note: str, policy: str) -> str:
    with pytest.raises(LogError) as caught:
        TrustPolicy.parse(policy).verify(note)
    return caught.value.code


def test_the_examples_of_c2sp_are_read_and_written_back() -> None:
    for text in (C2SP_COSIGNED, C2SP_POEM):
        assert SignedNote.parse(text).to_text() == text
    note = SignedNote.parse(C2SP_COSIGNED)
    assert Checkpoint.parse(note.text).size == 20852163
    # The specification shows the message cosigned: "time 1679315147".
    assert int.from_bytes(note.signatures[1].signature[:8], "big") == 1679315147
    assert SignedNote.parse(C2SP_POEM).text.count("\n") == 4


def test_vkeys_of_others_are_read() -> None:
    # https://c2sp.org/signed-note and https://pkg.go.dev/golang.org/x/mod/sumdb/note
    for vkey in (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ):
        assert NoteKey.parse(vkey).to_vkey() == vkey
    assert NoteKey.parse(log_vkey()) == NoteKey(ORIGIN, NoteKind.ED25519, LOG.public_bytes)


@pytest.mark.parametrize("vkey", ["", "a", "a+b", "a+00000000+AAAA", "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"])
def test_bad_vkeys_are_refused(vkey: str) -> None:
    with pytest.raises(LogError):
        NoteKey.parse(vkey)


def test_a_quorum_of_witnesses_is_demanded() -> None:
    policy = TrustPolicy.parse(policy_text())
    verified = policy.verify(checkpoint_note())
    assert set(verified.cosignatures) == {"a", "b"}
    assert verified.earliest == datetime.fromtimestamp(1_700_000_000, UTC)
    assert verified.unknown == 0
    assert code_of(checkpoint_note(witnesses=(2,)), policy_text()) == "log.no_quorum"
    assert code_of(checkpoint_note(witnesses=(0, 0)), policy_text()) == "log.no_quorum"
    assert TrustPolicy.parse(policy_text("quorum none\n")).verify(checkpoint_note(witnesses=())).earliest is None
    assert code_of(checkpoint_note(witnesses=(0, 1)), policy_text("quorum c\n")) == "log.no_quorum"


def test_groups_of_groups_as_in_the_specification() -> None:
    keys = {f"{side}{number}": DeviceKey(f"{side}{number}".encode() * 16) for side in "XY" for number in (1, 2, 3)}
    lines = [f"log {log_vkey()}"]
    lines += [f"witness {name} {NoteKey(name, NoteKind.COSIGNATURE, key.public_bytes).to_vkey()}" for name, key in keys.items()]
    lines += ["group X-witnesses 2 X1 X2 X3", "group Y-witnesses any Y1 Y2 Y3", "group X-and-Y all X-witnesses Y-witnesses"]
    policy = TrustPolicy.parse("# comment\n\n \t" + "\n".join(lines) + "\nquorum X-and-Y\n")
    note = SignedNote.parse(checkpoint_note(witnesses=()))

    def accepted(*names: str) -> bool:
        signed = note.with_signatures(*(cosign(note.text, name, keys[name], 5) for name in names))
        try:
            policy.verify(signed.to_text())
        except LogError as error:
            return error.code != "log.no_quorum"
        return True

    assert accepted("X1", "X3", "Y2")
    assert not accepted("X1", "X2", "X3")
    assert not accepted("X1", "Y1", "Y2", "Y3")
    assert not accepted()


@pytest.mark.parametrize(
    "line",
    [
        "quorum nobody",
        "quorum none\nquorum none",
        "group g 0 a\nquorum g",
        "group g 2 a\nquorum g",
        "group g any\nquorum g",
        "group g any g\nquorum g",
        "group g any a a\nquorum g",
        "group g any a\ngroup h any a\nquorum h",
        "group none any a\nquorum none",
        "group a any b\nquorum a",
        f"log {verifier_key('other', LOG.public_bytes)}\nquorum none",
        "witness d {a}\nquorum none",
        "log {a}\nquorum none",
        "nonsense\nquorum none",
        "quorum none\x00",
        "",
    ],
)
def test_bad_policies_are_refused(line: str) -> None:
    with pytest.raises(LogError) as caught:
        TrustPolicy.parse(policy_text(line.replace("{a}", witness_key(0).to_vkey()) + "\n"))
    assert caught.value.code == "log.malformed"


def test_every_change_of_a_byte_of_a_fully_signed_checkpoint_is_found() -> None:
    policy = TrustPolicy.parse(policy_text("group all all a b\nquorum all\n"))
    note = checkpoint_note().encode()
    for place in range(len(note)):
        for flip in (0x01, 0x04, 0x20, 0x80):
            changed = note[:place] + bytes([note[place] ^ flip]) + note[place + 1 :]
            with pytest.raises(LogError):
                policy.verify(changed)


def test_signatures_by_strangers_count_for_nothing_and_are_counted() -> None:
    stranger = DeviceKey(b"\x63" * 32)
    note = SignedNote.parse(checkpoint_note())
    policy = TrustPolicy.parse(policy_text())
    assert policy.verify(note.with_signatures(cosign(note.text, NAMES[2], stranger, 5)).to_text()).unknown == 1
    forged = sign_note(Checkpoint(ORIGIN, 3, b"\x05" * 32).to_text(), ORIGIN, stranger)
    assert code_of(forged, policy_text("quorum none\n")) == "log.bad_signature"
    other = sign_note(Checkpoint("log.example/two", 3, b"\x05" * 32).to_text(), ORIGIN, LOG)
    assert code_of(other, policy_text("quorum none\n")) == "log.bad_signature"


def test_tile_paths_are_those_of_the_specification() -> None:
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(2, 0, 1).path == "tile/2/000.p/1"
    assert Tile(ENTRIES, 1000, 12).path == "tile/entries/x001/000.p/12"
    # "a tree of size 70,000 will be represented by ..."
    tiles = list(tiles_of(70_000))
    assert sum(tile.level == 0 and tile.width == 256 for tile in tiles) == 273
    assert [tile for tile in tiles if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert Tile(1, 0) in tiles
    # "a tree of size 256 will be represented by a full level 0 tile and a partial level 1 tile of width 1"
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []
    assert [tile.width for tile in bundles_of(600)] == [256, 256, 88]


@given(st.integers(-1, 63), st.integers(0, 2**40), st.integers(1, 256))
def test_tile_paths_come_back(level: int, index: int, width: int) -> None:
    assert parse_tile_path(Tile(level, index, width).path) == Tile(level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/1",
        "tile/00/001",
        "tile/64/001",
        "tile/0/x000/001",
        "tile/0/001.p/256",
        "tile/0/001.p/0",
        "tile/0/001.p/07",
        "tile/0/../1",
        *("tile/0/001/", "tile/entries/001.p/", "tile/0/١٢٣", "checkpoint", "", "tile/0/001\n"),
    ],
)
def test_other_spellings_of_paths_are_refused(path: str) -> None:
    with pytest.raises(LogError):
        parse_tile_path(path)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=10))
def test_bundles_come_back_and_cut_ones_are_refused(entries: list[bytes]) -> None:
    data = pack_bundle(entries)
    assert unpack_bundle(data, len(entries)) == entries
    for wrong, width in (
        (data + b"\0", len(entries)),
        (data[:-1], len(entries)),
        (data, len(entries) + 1),
        (data, len(entries) - 1),
    ):
        with pytest.raises(LogError):
            unpack_bundle(wrong, width)


def test_an_entry_of_64_kib_does_not_fit() -> None:
    assert unpack_bundle(pack_bundle([b"x" * 65_535]), 1) == [b"x" * 65_535]
    with pytest.raises(LogError):
        pack_bundle([b"x" * 65_536])


def test_a_proof_travels_alone() -> None:
    entries = [f"entry {number}".encode() for number in range(300)]
    tree, tiles = TileTree(), {}
    tiles.update(tree.extend(map(leaf_hash, entries)))
    tiles.update(tree.partial_tiles())
    path = make_inclusion(TileHashes(300, tiles.__getitem__), 271, 300)
    proof = LogProof(271, path, checkpoint_note(300, tree.root()), b"shown, not proved")
    policy = TrustPolicy.parse(policy_text())
    assert LogProof.parse(proof.to_text()) == proof
    assert verify_proof(LogProof.parse(proof.to_text().encode()), entries[271], policy).checkpoint.size == 300
    for wrong in (LogProof(270, path, proof.checkpoint), LogProof(271, path[1:], proof.checkpoint)):
        with pytest.raises(LogError) as caught:
            verify_proof(wrong, entries[271], policy)
        assert caught.value.code == "log.bad_proof"
    with pytest.raises(LogError):
        verify_proof(proof, entries[270], policy)


def test_the_proof_of_the_specification_is_read() -> None:
    # https://c2sp.org/tlog-proof, the example at its head; the signatures are elided there and stand as they do.
    hashes = [
        "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=",
        "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=",
        "EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=",
        "RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=",
        "AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=",
    ]
    text = "\n".join(["c2sp.org/tlog-proof@v1", "index 73894", *hashes, "", "example.com/fancylog", "109482", ""])
    proof = LogProof.parse(text)
    assert (proof.index, proof.extra) == (73894, None)
    assert [base64.b64encode(item).decode() for item in proof.path] == hashes
    assert proof.to_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1\n\n",
        "c2sp.org/tlog-proof@v1\nindex 01\n\nx\n",
        "c2sp.org/tlog-proof@v2\nindex 1\n\nx\n",
        "c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nx\n",
        "c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nx\n",
        "c2sp.org/tlog-proof@v1\nindex " + "9" * 5000 + "\n\nx\n",
        "c2sp.org/tlog-proof@v1\nindex 1\n" + "A" * 43 + "=\n" * 64 + "\n\n",
    ],
)
def test_bad_proofs_are_refused(text: str) -> None:
    with pytest.raises(LogError) as caught:
        LogProof.parse(text)
    assert caught.value.code == "log.malformed"


@given(st.binary(max_size=200))
def test_no_bytes_crash_a_reader(data: bytes) -> None:
    for read in (SignedNote.parse, LogProof.parse, TrustPolicy.parse, lambda item: unpack_bundle(item, 2)):
        try:
            read(data)
        except LogError:
            continue
