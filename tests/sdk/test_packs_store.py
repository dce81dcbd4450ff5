"""The store: what is known, what is here, what may be loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from facekeep.errors import ModelError
from facekeep.packs import LoadPolicy, PackStore, choose_build, fix_command, parse_manifest, split_name
from facekeep.packs.files import typed_io
from tests.sdk.packs_setting import SECOND, WEIGHTS, build, document, file_entry, write_catalogue


@pytest.fixture
def store(tmp_path: Path) -> PackStore:
    catalogue = write_catalogue(tmp_path / "catalogue", document())
    return PackStore(tmp_path / "store", [catalogue])


def put_file(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments)
    return caught.value.code


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_unknown_packs_suggest_close_names(store: PackStore) -> None:
    with pytest.raises(ModelError, match="Did you mean made-up") as caught:
        store.manifest("mad-up")
    assert caught.value.code == "model.unknown_pack"
    for name in ("../x", "", "/etc", "x" * 1000, "a/b", "a\x00b"):
        assert code_of(store.manifest, name) == "model.unknown_pack"
        assert code_of(store.remove, name) == "model.unknown_pack"


def test_nothing_is_written_by_looking(store: PackStore) -> None:
    store.manifests()
    store.installed("made-up")
    store.verify()
    assert not store.directory.exists()


def test_not_installed_names_the_command(store: PackStore) -> None:
    with pytest.raises(ModelError, match=r"facekeep models import FILE, where FILE is weights\.onnx") as caught:
        store.read_files("made-up", "one")
    assert caught.value.code == "model.not_installed"


def test_the_command_pulls_where_there_is_an_address() -> None:
    manifest = parse_manifest(json.dumps(document("https://example.org/w")).encode())
    assert fix_command(manifest, manifest.builds[0]) == "facekeep models pull made-up/one"
    assert fix_command(manifest, manifest.builds[1]) == "facekeep models import FILE, where FILE is w.xml and w.bin"
    assert split_name("made-up/one") == ("made-up", "one")
    assert split_name("made-up") == ("made-up", None)


def test_import_by_hash_under_any_name(store: PackStore, tmp_path: Path) -> None:
    report = store.import_file(put_file(tmp_path, "downloaded (1)", WEIGHTS))
    assert report.complete == ("made-up/one",)
    assert report.incomplete == (("made-up/two", ("w.xml",)),)
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}
    assert [one.id for one in store.installed("made-up")] == ["one"]
    report = store.import_file(put_file(tmp_path, "other", SECOND), "made-up")
    assert report.complete == ("made-up/two",)
    assert store.read_files("made-up", "two") == {"w.xml": SECOND, "w.bin": WEIGHTS}


def test_import_of_unknown_bytes(store: PackStore, tmp_path: Path) -> None:
    same_size = bytes(len(WEIGHTS))
    assert code_of(store.import_file, put_file(tmp_path, "x", same_size)) == "model.unknown_pack"
    assert code_of(store.import_file, put_file(tmp_path, "x", same_size), "made-up") == "model.hash_mismatch"
    assert code_of(store.import_file, put_file(tmp_path, "x", b""), "made-up") == "model.hash_mismatch"
    assert code_of(store.import_file, tmp_path / "nowhere") == "model.io"
    assert code_of(store.import_file, tmp_path) == "model.io"
    os.mkfifo(tmp_path / "pipe")
    assert code_of(store.import_file, tmp_path / "pipe") == "model.io"
    assert not store.directory.exists()


def test_import_of_a_manifest_with_its_files(store: PackStore, tmp_path: Path) -> None:
    mine = document(id="mine")
    path = put_file(tmp_path, "bundle/manifest.json", json.dumps(mine).encode())
    put_file(tmp_path, "bundle/weights.onnx", WEIGHTS)
    report = store.import_file(path)
    assert (report.manifest, report.complete) == ("mine", ("mine/one",))
    assert store.read_files("mine", "one") == {"weights.onnx": WEIGHTS}
    assert not store.is_shipped("mine")
    again = PackStore(store.directory, [])
    assert [one.id for one in again.manifests()] == ["mine"]


def test_a_wrong_file_beside_a_manifest_leaves_nothing(store: PackStore, tmp_path: Path) -> None:
    path = put_file(tmp_path, "bundle/mine.json", json.dumps(document(id="mine")).encode())
    put_file(tmp_path, "bundle/weights.onnx", WEIGHTS[:-1] + b"?")
    assert code_of(store.import_file, path) == "model.hash_mismatch"
    assert not store.directory.exists()


def test_a_shipped_pack_cannot_be_replaced(store: PackStore, tmp_path: Path) -> None:
    path = put_file(tmp_path, "made-up.json", json.dumps(document(title="Mine now")).encode())
    with pytest.raises(ModelError, match="cannot be replaced"):
        store.import_file(path)
    assert store.manifest("made-up").title == "Made up for tests"


def test_a_manifest_under_another_name_is_refused(tmp_path: Path) -> None:
    write_catalogue(tmp_path, document())
    (tmp_path / "manifests/made-up.json").rename(tmp_path / "manifests/other.json")
    assert code_of(PackStore(tmp_path / "s", [tmp_path]).manifest, "other") == "model.invalid_manifest"


def test_any_flipped_byte_is_found(store: PackStore, tmp_path: Path) -> None:
    store.import_file(put_file(tmp_path, "w", WEIGHTS))
    store.import_file(put_file(tmp_path, "s", SECOND))
    assert {check.state for check in store.verify()} == {"ok"}
    target = store.directory / "made-up/two/w.xml"
    for offset in range(len(SECOND)):
        target.write_bytes(SECOND[:offset] + bytes([SECOND[offset] ^ 1]) + SECOND[offset + 1 :])
        assert code_of(store.read_files, "made-up", "two") == "model.hash_mismatch"
    states = {(check.build_id, check.name): check.state for check in store.verify("made-up")}
    assert states == {("one", "weights.onnx"): "ok", ("two", "w.xml"): "damaged", ("two", "w.bin"): "ok"}


def test_cut_missing_and_unreadable_files(store: PackStore, tmp_path: Path) -> None:
    store.import_file(put_file(tmp_path, "w", WEIGHTS))
    store.import_file(put_file(tmp_path, "s", SECOND))
    target = store.directory / "made-up/two/w.xml"
    target.write_bytes(SECOND[:-1])
    with pytest.raises(ModelError, match="facekeep models remove made-up") as caught:
        store.read_files("made-up", "two")
    assert caught.value.code == "model.hash_mismatch"
    target.unlink()
    assert code_of(store.read_files, "made-up", "two") == "model.not_installed"
    assert [check.state for check in store.verify()] == ["ok", "missing", "ok"]
    target.mkdir()
    assert code_of(store.read_files, "made-up", "two") == "model.hash_mismatch"
    assert "unreadable" in [check.state for check in store.verify()]


def test_shipped_weights_count_as_installed_and_stay(tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", document())
    put_file(catalogue, "weights/made-up/one/weights.onnx", WEIGHTS)
    store = PackStore(tmp_path / "store", [catalogue])
    assert store.read_files("made-up", "one") == {"weights.onnx": WEIGHTS}
    assert store.remove("made-up") == 0
    assert [one.id for one in store.installed("made-up")] == ["one"]


def test_remove_frees_what_was_imported(store: PackStore, tmp_path: Path) -> None:
    store.import_file(put_file(tmp_path, "w", WEIGHTS))
    assert store.remove("made-up") == 2 * len(WEIGHTS)
    assert store.installed("made-up") == ()
    path = put_file(tmp_path, "bundle/mine.json", json.dumps(document(id="mine")).encode())
    store.import_file(path)
    assert store.remove("mine") > 0
    assert code_of(store.manifest, "mine") == "model.unknown_pack"


def test_a_link_in_place_of_a_pack_is_not_followed(store: PackStore, tmp_path: Path) -> None:
    put_file(tmp_path, "precious/file", b"x")
    store.directory.mkdir()
    (store.directory / "made-up").symlink_to(tmp_path / "precious")
    assert code_of(store.remove, "made-up") == "model.io"
    assert (tmp_path / "precious/file").exists()


def test_an_unusable_build_says_why(tmp_path: Path) -> None:
    value = document()
    value["builds"][0]["unusable_because"] = "No runtime loads it."
    store = PackStore(tmp_path / "s", [write_catalogue(tmp_path / "c", value)])
    report = store.import_file(put_file(tmp_path, "w", WEIGHTS))
    assert "No runtime loads it" in report.note
    with pytest.raises(ModelError, match="No runtime loads it") as caught:
        store.read_files("made-up", "one")
    assert caught.value.code == "model.invalid_model"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_store_that_cannot_be_written(store: PackStore, tmp_path: Path) -> None:
    store.directory.mkdir(mode=0o500)
    assert code_of(store.import_file, put_file(tmp_path, "w", WEIGHTS)) == "model.io"


def test_a_file_in_place_of_the_store(tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", document())
    store = PackStore(put_file(tmp_path, "store", b""), [catalogue])
    assert code_of(store.import_file, put_file(tmp_path, "w", WEIGHTS)) == "model.io"


def test_a_full_disk_is_told_from_other_faults() -> None:
    with pytest.raises(ModelError) as caught, typed_io("writing"), Path("/dev/full").open("wb", buffering=0) as stream:
        stream.write(b"x")
    assert caught.value.code == "model.disk_full"


def test_policies() -> None:
    manifest = parse_manifest(json.dumps(document()).encode())
    LoadPolicy().require(manifest)
    with pytest.raises(ModelError, match="research and evaluation only"):
        LoadPolicy(commercial_only=True).require(manifest)
    with pytest.raises(ModelError, match="documented consent") as caught:
        LoadPolicy(consented_only=True).require(manifest)
    assert caught.value.code == "model.not_permitted"
    free = parse_manifest(
        json.dumps(
            document(permitted_uses=["commercial"], training_data={"description": "Paid actors.", "consented": True})
        ).encode()
    )
    LoadPolicy(commercial_only=True, consented_only=True).require(free)


def test_the_fastest_build_wins_whatever_its_precision() -> None:
    seconds = {"int8": 2.0, "fp32": 1.0, "fp16": 1.0}
    assert choose_build(list(seconds), seconds.__getitem__) == "fp32"
    assert choose_build(["a", "b"], {"a": float("inf"), "b": float("inf")}.__getitem__) == "a"


def test_builds_that_do_not_run_are_passed_over() -> None:
    def measure(name: str) -> float:
        if name != "works":
            raise ModelError("model.runtime_missing", f"{name} is missing")
        return 1.0

    assert choose_build(["first", "works"], measure) == "works"
    with pytest.raises(ModelError, match="first is missing"):
        choose_build(["first", "second"], measure)
    with pytest.raises(ValueError, match="candidates"):
        choose_build([], measure)
    with pytest.raises(ValueError, match="number"):
        choose_build(["x"], lambda _: float("nan"))


def test_one_file_in_several_packs(tmp_path: Path) -> None:
    other = document(id="other", builds=[build("x", "onnx", [file_entry("y.onnx", WEIGHTS)], [])])
    store = PackStore(tmp_path / "s", [write_catalogue(tmp_path / "c", document(), other)])
    assert store.import_file(put_file(tmp_path, "w", WEIGHTS)).complete == ("made-up/one", "other/x")
    assert everything(store.directory) == ["made-up/one/weights.onnx", "made-up/two/w.bin", "other/x/y.onnx"]


def test_the_shipped_catalogue_is_found_without_importing_it() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from facekeep.packs import PackStore; s = PackStore('/nonexistent');"
        "assert 'reid-retail-0095' in [m.id for m in s.manifests()];"
        "assert not any(m.startswith('facekeep_models') for m in sys.modules);"
        "assert not {'urllib.request', 'ssl', 'socket'} & set(sys.modules), 'network code loaded'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
