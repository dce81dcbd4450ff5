"""Manifests: strict, and never another exception than ModelError."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.address import is_permitted_address
from facekeep.contract import ALIGNMENT_ID, InputContract, ModelIdentity, contract_id
from facekeep.errors import ModelError
from facekeep.packs import Manifest, PackFile, manifest_to_bytes, parse_manifest
from tests.sdk.packs_setting import build, document, file_entry


def parsed(value: object) -> Manifest:
    return parse_manifest(json.dumps(value).encode())


def refused(value: object) -> str:
    with pytest.raises(ModelError) as caught:
        parsed(value)
    assert caught.value.code == "model.invalid_manifest"
    return str(caught.value)


def test_round_trip() -> None:
    manifest = parsed(document())
    assert parse_manifest(manifest_to_bytes(manifest)) == manifest
    assert [one.id for one in manifest.builds] == ["one", "two"]
    assert manifest.builds[0].operating_points[1].fmr == 1e-3
    assert dict(manifest.options) == {"overlap": 0.3, "name": "x", "flag": True}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, the root included."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def put(value: Any, path: tuple[Any, ...], item: Any) -> Any:
    if not path:
        return item
    result = copy.deepcopy(value)
    target = result
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = item
    return result


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**310),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "../x", "a/b", "http://example.org/x", "file:///etc/passwd", "\x00", "\ud800", "x" * 5000, "NaN"]),
    st.lists(st.integers(), max_size=3),
    st.lists(st.none(), min_size=65, max_size=70),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@given(st.data())
def test_a_mutated_manifest_is_a_manifest_or_a_model_error(data: st.DataObject) -> None:
    value = document("https://example.org/w")
    for _ in range(data.draw(st.integers(1, 2))):
        value = put(value, data.draw(st.sampled_from(places(value))), data.draw(JUNK))
    manifest, refusal = None, None
    try:
        manifest = parsed(value)
    except ModelError as error:
        refusal = error
    if manifest is not None:
        assert parse_manifest(manifest_to_bytes(manifest)) == manifest
    if refusal is not None:
        assert refusal.code == "model.invalid_manifest"
        assert len(str(refusal)) < 1000


@given(st.binary(max_size=200))
def test_bytes_that_are_no_json(data: bytes) -> None:
    with pytest.raises(ModelError):
        parse_manifest(data)


@given(st.data())
def test_a_missing_or_unknown_field_is_refused(data: st.DataObject) -> None:
    value = document()
    objects = [path for path in places(value) if isinstance(_at(value, path), dict) and path[:1] != ("options",)]
    path = data.draw(st.sampled_from(objects))
    fields = _at(value, path)
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(fields)))
        refused(put(value, path, {key: item for key, item in fields.items() if key != name}))
    else:
        assert "unknown field" in refused(put(value, path, fields | {"surprise": 1}))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize(
    ("path", "item"),
    [
        (("id",), "Made-Up"),
        (("id",), "a" * 65),
        (("id",), "../../etc"),
        (("id",), "a--b"),
        (("id",), "manifest.json"),
        (("task",), "detection"),
        (("family",), "yunet"),
        (("manifest_version",), 2),
        (("manifest_version",), True),
        (("manifest_version",), 1.0),
        (("permitted_uses",), []),
        (("permitted_uses",), ["research", "research"]),
        (("permitted_uses",), ["anything"]),
        (("permitted_uses",), ["simulation", "commercial"]),
        (("training_data", "consented"), 1),
        (("input", "std"), [1, 0, 1]),
        (("input", "size_px"), None),
        (("input", "size_px"), [112, 112, 3]),
        (("input", "size_px"), [112, 10**9]),
        (("input", "crop"), "box"),
        (("input", "mean"), [0, 0, True]),
        (("output", "dimension"), 0),
        (("output", "dimension"), 10**9),
        (("output", "dimension"), None),
        (("output", "landmarks"), True),
        (("output", "classes"), ["bona_fide"]),
        (("options", "x"), [1]),
        (("builds",), []),
        (("builds", 0, "files"), []),
        (("builds", 1, "id"), "one"),
        (("builds", 0, "runtime"), "torch"),
        (("builds", 0, "files", 0, "name"), "../weights.onnx"),
        (("builds", 0, "files", 0, "name"), ".hidden"),
        (("builds", 0, "files", 0, "name"), "a/b"),
        (("builds", 0, "files", 0, "bytes"), 0),
        (("builds", 0, "files", 0, "bytes"), 10**12),
        (("builds", 0, "files", 0, "sha256"), "A" * 64),
        (("builds", 0, "files", 0, "url"), "http://example.org/w"),
        (("builds", 0, "files", 0, "url"), "file:///etc/passwd"),
        (("builds", 1, "files", 1, "name"), "W.XML"),
        (("builds", 0, "operating_points", 0, "fmr"), 0),
        (("builds", 0, "operating_points", 0, "threshold"), 1.5),
        (("builds", 0, "operating_points", 0, "mated"), 0),
    ],
)
def test_values_out_of_bounds_are_refused(path: tuple[Any, ...], item: Any) -> None:
    refused(put(document(), path, item))


def test_what_json_allows_and_a_manifest_does_not() -> None:
    text = json.dumps(document())
    for bad in (text.replace('"id"', '"id": "x", "id"', 1), text.replace("0.5", "NaN", 1), text.replace("0.5", "1e999", 1)):
        with pytest.raises(ModelError) as caught:
            parse_manifest(bad.encode())
        assert caught.value.code == "model.invalid_manifest"
    for data in (b"[" * 100_000, b"\xff" + text.encode(), b" " * 300_000, text.encode() + b"x"):
        with pytest.raises(ModelError):
            parse_manifest(data)


def test_only_embeddings_have_operating_points() -> None:
    value = document(task="detection", family="yunet", output={"dimension": None, "landmarks": True, "classes": []})
    value["input"] |= {"crop": "frame", "size_px": None}
    assert "operating points" in refused(value)
    value["builds"][0]["operating_points"] = []
    assert parsed(value).output.landmarks


def test_a_build_may_have_an_input_of_its_own() -> None:
    value = document()
    value["builds"][1]["input"] = value["input"] | {"layout": "NHWC"}
    manifest = parsed(value)
    assert manifest.input_of(manifest.builds[0]).layout == "NCHW"
    assert manifest.input_of(manifest.builds[1]).layout == "NHWC"


def test_an_unknown_build_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="one, two") as caught:
        parsed(document()).build("three")
    assert caught.value.code == "model.unknown_pack"


@pytest.mark.parametrize(
    ("address", "permitted"),
    [
        ("https://example.org/a", True),
        ("http://127.0.0.1:8000/a", True),
        ("http://[::1]/a", True),
        ("http://localhost/a", True),
        ("http://example.org/a", False),
        ("http://127.0.0.1.example.org/a", False),
        ("https://user:secret@example.org/a", False),
        ("ftp://example.org/a", False),
        ("file:///etc/passwd", False),
        ("data:,x", False),
        ("https:///a", False),
        ("https://example.org:x/a", False),
        ("https://exa mple.org/a", False),
        ("https://example.org/\n", False),
    ],
)
def test_addresses(address: str, permitted: bool) -> None:
    assert is_permitted_address(address) is permitted


def test_a_file_of_absurd_size_does_not_exist() -> None:
    with pytest.raises(ValueError, match="bytes"):
        PackFile("a", 1 << 40, "0" * 64)


def identity(**changes: Any) -> ModelIdentity:
    values: dict[str, Any] = {
        "pack_id": "p",
        "build_id": "b",
        "family": "cosine",
        "files": {"a": "0" * 64, "b": "1" * 64},
        "input": InputContract("NCHW", "RGB", (112, 112), crop="arcface-112"),
        "options": (("x", "1"), ("y", "2")),
    }
    return ModelIdentity(**(values | changes))


def test_the_contract_changes_with_every_ingredient_and_with_no_label() -> None:
    base = identity()
    contract = base.input
    others = [
        identity(family="points"),
        identity(files={"a": "0" * 64, "b": "2" * 64}),
        identity(files={"a": "0" * 64}),
        identity(options=(("x", "1"), ("y", "3"))),
        identity(options=()),
        identity(input=replace(contract, layout="NHWC")),
        identity(input=replace(contract, colour="BGR")),
        identity(input=replace(contract, size_px=(128, 128))),
        identity(input=replace(contract, multiple_of=2)),
        identity(input=replace(contract, mean=(0.0, 0.0, 1.0))),
        identity(input=replace(contract, std=(1.0, 1.0, 2.0))),
        identity(input=replace(contract, crop="box")),
        identity(input=replace(contract, crop_scale=1.5)),
    ]
    ids = [contract_id(base, base)]
    ids += [contract_id(other, base) for other in others]
    ids += [contract_id(base, other) for other in others]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 64 for one in ids)
    renamed = identity(pack_id="q", build_id="c", files={"z": "1" * 64, "y": "0" * 64}, options=(("y", "2"), ("x", "1")))
    assert contract_id(renamed, base) == contract_id(base, base)
    assert ALIGNMENT_ID


def test_two_file_build_of_the_sample_is_valid() -> None:
    value = document(builds=[build("x", "openvino", [file_entry("a.xml", b"1"), file_entry("a.bin", b"2")], [])])
    assert not parsed(value).builds[0].can_be_pulled
