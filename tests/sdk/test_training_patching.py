"""The patch: numbers into their place, and nothing but what the release states."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.embedding import CosineEmbedder
from facekeep.errors import FederationError, ReleaseError
from facekeep.packs import PackStore
from facekeep.runtime import open_session
from facekeep.training import (
    HEAD,
    LEVELS,
    ParameterTable,
    PatchTable,
    TrainableTensor,
    embed_features,
    parse_parameter_table,
    parse_patch_table,
    patched,
    read_parameters,
    table_for,
)

STORE = PackStore("/nonexistent/facekeep-test-store")
LAYOUT = parse_parameter_table([["a.scale", [3]], ["a.offset", [3]], ["b.slope", [2]], [HEAD, [2, 3]]])


def small(stored: Any = "float32") -> tuple[bytes, PatchTable, NDArray[np.float32]]:
    values = np.linspace(-2, 2, LAYOUT.length, dtype=np.float32).astype(np.float16).astype(np.float32)
    model = b"before" + values.astype("<f4" if stored == "float32" else "<f2").tobytes() + b"after"
    return model, table_for(model, LAYOUT, values, stored), values


def shipped(build: str) -> tuple[bytes, PatchTable]:
    files = STORE.read_files("facekeep-embedder", build)
    (model,) = (content for name, content in files.items() if name.endswith(".onnx"))
    (table,) = (content for name, content in files.items() if name.endswith(".patch.json"))
    return model, parse_patch_table(table)


def test_levels_are_runs_of_the_row() -> None:
    assert LAYOUT.levels == LEVELS
    assert [LAYOUT.range_of(level) for level in ("channels", "head", "deep")] == [slice(0, 8), slice(8, 14), slice(0, 14)]
    assert [LAYOUT.length_of(level) for level in LEVELS] == [8, 6, 14]
    assert (LAYOUT.length, LAYOUT.dimension, LAYOUT.features_dimension) == (14, 2, 3)
    ends = [tensor.start + tensor.length for tensor in LAYOUT.tensors]
    assert [LAYOUT.range_of("deep", end) for end in ends] == [slice(0, end) for end in ends]
    assert LAYOUT.range_of("head", 6) == slice(8, 14)
    for level, length in [
        ("deep", 0),
        ("deep", -1),
        ("deep", 15),
        ("channels", 14),
        ("head", 8),
        *(("deep", end - 1) for end in ends),
    ]:
        with pytest.raises(FederationError) as caught:
            LAYOUT.range_of(level, length)
        assert caught.value.code == "federation.plan_refused"
    alone = parse_parameter_table([[HEAD, [2, 3]]])
    assert alone.levels == ("head",)
    for level in ("deep", "channels", "everything"):
        with pytest.raises(FederationError) as caught:
            alone.range_of(level)
        assert caught.value.code == "federation.plan_refused"
    row = np.arange(14, dtype=np.float32)
    np.testing.assert_array_equal(LAYOUT.head_of(row), row[8:].reshape(2, 3))
    np.testing.assert_array_equal(LAYOUT.head_of(row[8:]), row[8:].reshape(2, 3))
    with pytest.raises(ValueError, match="row of 14 or 6"):
        LAYOUT.head_of(row[:3])


def test_a_table_has_no_gap_and_no_surprise() -> None:
    assert parse_parameter_table(LAYOUT.to_value()) == LAYOUT
    bad: list[Any] = [
        [],
        {},
        None,
        [["a.scale", [3]]],
        [[HEAD, [6]]],
        [[HEAD, [2, 3]], ["a.scale", [3]]],
        [["a.scale", [3]], ["a.scale", [3]], [HEAD, [2, 3]]],
        [["../a.scale", [3]], [HEAD, [2, 3]]],
        [["a.scale", [0]], [HEAD, [2, 3]]],
        [["a.scale", []], [HEAD, [2, 3]]],
        [["a.scale", [True]], [HEAD, [2, 3]]],
        [["a.scale", [2**40]], [HEAD, [2, 3]]],
        [["a.scale"], [HEAD, [2, 3]]],
        [[3, [3]], [HEAD, [2, 3]]],
        [["a.scale", "3"], [HEAD, [2, 3]]],
    ]
    for value in bad:
        with pytest.raises(ReleaseError) as caught:
            parse_parameter_table(value)
        assert caught.value.code == "release.malformed"
    with pytest.raises(ValueError, match="without a gap"):
        ParameterTable((TrainableTensor("a.scale", 0, (3,)), TrainableTensor(HEAD, 4, (2, 3))))


@pytest.mark.parametrize("stored", ["float32", "float16"])
@pytest.mark.parametrize("level", LEVELS)
def test_numbers_into_their_place(level: str, stored: str) -> None:
    model, table, values = small(stored)
    np.testing.assert_array_equal(read_parameters(model, table), values)
    part = LAYOUT.range_of(level)
    new = np.arange(part.stop - part.start, dtype=np.float32) / 8
    made = patched(model, table, level, new.tobytes(), sha256=None)
    expected = values.copy()
    expected[part] = new
    np.testing.assert_array_equal(read_parameters(made, table), expected)
    assert (len(made), made[:6], made[-5:]) == (len(model), b"before", b"after")
    # And back again, from the patched file: a rollback.
    stated = hashlib.sha256(model).hexdigest()
    assert patched(made, table, level, values[part].tobytes(), sha256=stated) == model


def test_what_the_release_does_not_state_is_refused() -> None:
    model, table, values = small()
    row = values.tobytes()
    cases: list[tuple[bytes, str, bytes, str | None, str]] = [
        (model, "deep", row, "0" * 64, "release.wrong_model"),
        (model[:-1], "deep", row, None, "release.wrong_model"),
        (model[:-1] + b"!", "deep", row, None, "release.wrong_model"),
        (b"!" + model[1:], "deep", row, None, "release.wrong_model"),
        (model, "deep", row[:-1], None, "release.malformed"),
        (model, "head", row, None, "release.malformed"),
        (model, "deep", np.full(14, np.nan, np.float32).tobytes(), None, "release.malformed"),
        (model, "deep", np.full(14, -np.inf, np.float32).tobytes(), None, "release.malformed"),
        (model, "wide", row, None, "federation.plan_refused"),
    ]
    for content, level, numbers, sha256, code in cases:
        with pytest.raises((ReleaseError, FederationError)) as caught:
            patched(content, table, level, numbers, sha256=sha256)
        assert caught.value.code == code
    half, half_table, _ = small("float16")
    with pytest.raises(ReleaseError, match="not one of float16"):
        patched(half, half_table, "deep", np.full(14, 1e6, np.float32).tobytes(), sha256=None)
    with pytest.raises(ReleaseError):
        read_parameters(model[1:], table)


def test_a_patch_table_has_one_spelling() -> None:
    _, table, _ = small()
    content = table.to_bytes()
    assert parse_patch_table(content) == table
    value = parse_canonical(content)
    bad = [
        b"",
        b"[]",
        b"\xff",
        content + b" ",
        *(
            to_canonical(value | change)
            for change in (
                {"v": 2},
                {"v": True},
                {"offset": -1},
                {"offset": 10**9},
                {"offset": "16"},
                {"bytes": 3},
                {"stored": "float64"},
                {"stored": 4},
                {"rest": "A" * 64},
                {"tensors": []},
                {"more": 1},
            )
        ),
        to_canonical({name: value[name] for name in value if name != "rest"}),
    ]
    for each in bad:
        with pytest.raises(ReleaseError) as caught:
            parse_patch_table(each)
        assert caught.value.code == "release.malformed"
    with pytest.raises(ValueError, match="inside the file"):
        replace(table, offset=table.size_bytes)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_no_table(content: bytes) -> None:
    with pytest.raises(ReleaseError):
        parse_patch_table(content)


def test_numbers_that_are_twice_in_a_file_have_no_place() -> None:
    values = np.arange(14, dtype=np.float32)
    for model in (values.tobytes() * 2, b"nothing"):
        with pytest.raises(ValueError, match="exactly once"):
            table_for(model, LAYOUT, values, "float32")


@pytest.mark.parametrize(("build", "length", "stored"), [("onnx-fp32", 54_560, "float32"), ("onnx-int8", 49_152, "float16")])
def test_the_shipped_models_can_be_patched(build: str, length: int, stored: str) -> None:
    model, table = shipped(build)
    assert (table.parameters.length, table.stored) == (length, stored)
    assert (table.parameters.dimension, table.parameters.features_dimension) == (256, 192)
    row = read_parameters(model, table)
    head = table.parameters.range_of("head")
    same = patched(model, table, "head", row[head].tobytes(), sha256=hashlib.sha256(model).hexdigest())
    assert same == model
    # Another head: what the runtime then answers is the new map of the same features.
    random = np.random.default_rng(0)
    moved = row[head] + 0.02 * random.normal(size=head.stop - head.start).astype(np.float32)
    made = patched(model, table, "head", moved.tobytes(), sha256=None)
    contract = STORE.manifest("facekeep-embedder").input
    before, after = (CosineEmbedder(open_session("onnx", {"a.onnx": each}), contract, 256) for each in (model, made))
    crop = random.integers(0, 256, (112, 112, 3), dtype=np.uint8)
    old, features = before.embed_with_features(crop)
    new, same_features = after.embed_with_features(crop)
    np.testing.assert_array_equal(features, same_features)
    assert features.shape == (192,)
    stands = table.parameters.head_of(read_parameters(made, table))
    np.testing.assert_allclose(embed_features(stands, features[None])[0], new, atol=1e-5)
    assert float(old @ new) < 0.999


def test_every_number_of_the_shipped_model_is_where_the_table_says() -> None:
    model, table = shipped("onnx-fp32")
    row = read_parameters(model, table)
    contract = STORE.manifest("facekeep-embedder").input
    crop = np.random.default_rng(1).integers(0, 256, (112, 112, 3), dtype=np.uint8)

    def embedded(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        content = patched(model, table, "deep", numbers.tobytes(), sha256=None)
        return CosineEmbedder(open_session("onnx", {"a.onnx": content}), contract, 256).embed(crop)

    start = embedded(row)
    for tensor in table.parameters.tensors[::6]:
        part = slice(tensor.start, tensor.start + tensor.length)
        if tensor.name.endswith(".scale"):
            assert (row[part] == 1).all()
        changed = row.copy()
        changed[part] += np.float32(0.5)
        assert float(start @ embedded(changed)) < 1 - 1e-5, tensor.name
