"""A training kit is what its description says, or is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import ReleaseError
from facekeep.training import HEAD, describe_kit, parse_parameter_table, parse_training_kit

LAYOUT = parse_parameter_table([["a.scale", [3]], [HEAD, [4, 6]]])
ANCHORS = np.eye(4, dtype=np.float32)[[0, 2, 1]]
DESCRIPTION, FILES = describe_kit("some-embedder/onnx", "0" * 64, LAYOUT, ANCHORS, b"graph", "nobody")


def code_of(description: bytes, files: dict[str, bytes], sha256: str | None = None) -> str:
    with pytest.raises(ReleaseError) as caught:
        parse_training_kit(description, files, sha256=sha256)
    return caught.value.code


def test_a_kit_comes_back() -> None:
    kit = parse_training_kit(DESCRIPTION, FILES, sha256=None)
    assert (kit.pack, kit.parameters, kit.graph, kit.made_of) == ("some-embedder/onnx", LAYOUT, b"graph", "nobody")
    np.testing.assert_array_equal(kit.anchors, ANCHORS)
    assert not kit.anchors.flags.writeable
    assert "1." not in repr(kit)
    again = parse_training_kit(DESCRIPTION, FILES, sha256=kit.sha256)
    assert again.sha256 == kit.sha256
    description, files = describe_kit(
        "some-embedder/onnx", "0" * 64, parse_parameter_table([[HEAD, [4, 6]]]), ANCHORS, b"", "nobody"
    )
    assert parse_training_kit(description, files, sha256=None).graph == b""


def test_another_kit_than_the_policy_states() -> None:
    assert code_of(DESCRIPTION, FILES, "1" * 64) == "release.wrong_model"
    assert code_of(DESCRIPTION, FILES | {"train.onnx": b"another"}) == "release.wrong_model"
    assert code_of(DESCRIPTION, FILES | {"anchors.f32": FILES["anchors.f32"][::-1]}) == "release.wrong_model"
    assert code_of(DESCRIPTION, {"anchors.f32": FILES["anchors.f32"]}) == "release.wrong_model"


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0, 0.0])
def test_anchors_are_unit_vectors(bad: float) -> None:
    anchors = ANCHORS.copy()
    anchors[1, 2] = bad
    assert code_of(*describe_kit("some-embedder/onnx", "0" * 64, LAYOUT, anchors, b"graph", "nobody")) == "release.malformed"
    wide = describe_kit("some-embedder/onnx", "0" * 64, LAYOUT, np.eye(5, dtype=np.float32)[:3], b"graph", "nobody")
    assert code_of(*wide) == "release.malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"pack": "../embedder/onnx"},
        {"pack": 3},
        {"rest": "0"},
        {"tensors": []},
        {"anchors": 0},
        {"anchors": 10**7},
        {"anchors": "3"},
        {"made_of": "x" * 401},
        {"files": {}},
        {"files": {"anchors.f32": "0"}},
        {"files": {"anchors.f32": "0" * 64, "../../etc/passwd": "0" * 64}},
        {"more": 1},
    ],
)
def test_a_description_of_another_form(change: dict[str, Any]) -> None:
    assert code_of(to_canonical(parse_canonical(DESCRIPTION) | change), FILES) == "release.malformed"


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_no_kit(content: bytes) -> None:
    assert code_of(content, FILES) == "release.malformed"
