"""Our notes, cosignatures, tiles and proofs under verifiers that others wrote: those shipped with Go."""

import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from facekeep.logfiles import LogDirectory
from facekeep.merkle import leaf_hash, root_of
from facekeep.note import verifier_key
from facekeep.tlog import NoteKey, NoteKind, TileHashes, make_consistency, make_inclusion
from tests.sdk.log_scenes import LOG, ORIGIN, START, WITNESSES, busy_entries, write_log

PROGRAM = Path(__file__).parent / "go_verifier" / "main.go"
SIZE = 1500


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built from the packages inside the Go distribution; nothing is fetched."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go toolchain: apt-get install golang-go")
    root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    vendored = Path(root) / "src" / "cmd" / "vendor" / "golang.org" / "x" / "mod" / "sumdb"
    if not (vendored / "tlog").is_dir():
        pytest.skip(f"this Go distribution ships no sources of sumdb: {vendored}")
    folder = tmp_path_factory.mktemp("go")
    for name in ("note", "tlog"):
        shutil.copytree(vendored / name, folder / "mod" / "sumdb" / name)
    for source in folder.rglob("*.go"):
        # Older ones import a wrapper around the standard library that is not vendored beside them.
        source.write_text(source.read_text().replace('"golang.org/x/crypto/ed25519"', '"crypto/ed25519"'))
    (folder / "mod" / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.17\n")
    shutil.copy(PROGRAM, folder / "main.go")
    (folder / "go.mod").write_text(
        "module verify\n\ngo 1.17\n\nrequire golang.org/x/mod v0.0.0\n\nreplace golang.org/x/mod => ./mod\n"
    )
    settings = {
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOCACHE": str(folder / "cache"),
    }
    built = subprocess.run(
        [go, "build", "-o", "verify", "."], cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder / "verify"


def write_scene(folder: Path) -> tuple[list[str], list[bytes]]:
    entries = list(busy_entries(SIZE))
    write_log(folder / "log", entries, START + timedelta(days=2))
    vkeys = [verifier_key(ORIGIN, LOG.public_bytes)]
    vkeys += [NoteKey(name, NoteKind.COSIGNATURE, key.public_bytes).to_vkey() for name, key in WITNESSES.items()]
    (folder / "vkeys").write_text("\n".join(vkeys))
    reader = TileHashes(SIZE, LogDirectory(folder / "log").read_tile)
    lines = []
    for index in (0, 1, 255, 256, 511, 700, 1279, 1280, 1498, 1499):
        path = make_inclusion(reader, index, SIZE)
        lines.append(" ".join(["inclusion", str(index), entries[index].hex(), *(item.hex() for item in path)]))
    for old in (1, 2, 255, 256, 257, 512, 1000, 1024, 1499, 1500):
        root = root_of([leaf_hash(entry) for entry in entries[:old]])
        path = make_consistency(reader, old, SIZE)
        lines.append(" ".join(["consistency", str(old), root.hex(), *(item.hex() for item in path)]))
    return lines, entries


def run(verifier: Path, folder: Path, lines: list[str]) -> str:
    (folder / "proofs").write_text("\n".join(lines) + "\n")
    return subprocess.run([verifier, folder], capture_output=True, text=True, check=False).stdout.strip()


@pytest.mark.slow
def test_go_verifies_what_we_write_and_refuses_what_was_changed(verifier: Path, tmp_path: Path) -> None:
    lines, entries = write_scene(tmp_path)
    assert run(verifier, tmp_path, lines) == f"OK 3 signatures 20 proofs {SIZE} entries"
    # The verifier is not one that says yes to everything.
    assert run(verifier, tmp_path, [lines[0].replace(entries[0].hex(), entries[1].hex())]).startswith("FAIL")
    assert run(verifier, tmp_path, [lines[10].rsplit(" ", 1)[0]]).startswith("FAIL")
    note = tmp_path / "log" / "checkpoint"
    text = note.read_text()
    note.write_text(text.replace(f"\n{SIZE}\n", f"\n{SIZE - 1}\n"))
    assert run(verifier, tmp_path, lines).startswith("FAIL")
    note.write_text(text)
    tile = tmp_path / "log" / "tile" / "0" / "001"
    data = bytearray(tile.read_bytes())
    data[-1] ^= 1
    tile.write_bytes(data)
    assert run(verifier, tmp_path, lines).startswith("FAIL")
