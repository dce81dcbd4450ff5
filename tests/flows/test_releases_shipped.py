"""The embedder that ships follows a `head` release exactly, in both builds that can be patched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from facekeep import PackStore
from facekeep.assembly import ModelChoice, load_models
from facekeep.assembly.loading import ReleasedModel, find_trainable
from facekeep.embedding import mean_direction
from facekeep.errors import ReleaseError
from facekeep.flows.adopt import head_of
from facekeep.flows.trial import require_computes
from facekeep.packs import LoadPolicy
from facekeep.ports import FeatureEmbedder
from facekeep.training.head import embed_features
from facekeep.training.patching import patched, read_parameters
from facekeep.trust.vectors import reference_crops, vectors_to_bytes

FRAMES = 4


@pytest.mark.parametrize("build", ["onnx-fp32", "onnx-int8"])
def test_features_under_the_new_head_are_what_the_released_model_gives(tmp_path: Path, build: str) -> None:
    store, policy = PackStore(tmp_path), LoadPolicy()
    choice = ModelChoice("facekeep-detector/onnx-fp32", f"facekeep-embedder/{build}")
    before = load_models(store, choice, policy=policy)
    found = find_trainable(store.read_files("facekeep-embedder", build))
    assert found is not None
    name, table = found
    content = store.read_files("facekeep-embedder", build)[name]
    draw = np.random.default_rng(0)
    head = read_parameters(content, table)[table.parameters.tensors[-1].start :]
    numbers = (head + 0.05 * np.abs(head).mean() * draw.normal(size=head.shape)).astype("<f4").tobytes()
    made = patched(content, table, "head", numbers, sha256=None)
    released = ReleasedModel("0" * 64, made, hashlib.sha256(made).hexdigest(), before.operating_points)
    after = load_models(store, choice, policy=policy, released=released)
    # Other embeddings, the same features.
    assert after.contract_id != before.contract_id
    assert after.feature_base == before.feature_base != before.contract_id
    assert isinstance(before.embedder, FeatureEmbedder)
    noise = draw.integers(-20, 21, (FRAMES, 112, 112, 3))
    crops = [np.clip(crop + change, 0, 255).astype(np.uint8) for crop in reference_crops() for change in noise]
    features = np.stack([before.embedder.embed_with_features(crop)[1] for crop in crops])
    moved, again = embed_features(head_of(made, table), features), np.stack([after.embedder.embed(crop) for crop in crops])
    assert np.abs(moved - np.stack([before.embedder.embed(crop) for crop in crops])).max() > 1e-3
    assert np.abs(moved - again).max() <= 1e-5
    for start in range(0, len(crops), FRAMES):
        one, other = (mean_direction(list(rows[start : start + FRAMES])) for rows in (moved, again))
        assert np.abs(one - other).max() <= 1e-5
    vectors = np.stack([after.embedder.embed(crop) for crop in reference_crops()])
    require_computes(after, head_of(made, table), vectors_to_bytes(vectors))
    with pytest.raises(ReleaseError) as caught:
        require_computes(after, head_of(made, table), vectors_to_bytes(vectors[::-1]))
    assert caught.value.code == "release.failed_selftest"
    # The head of another model: what templates would move to is not what the model gives.
    with pytest.raises(ReleaseError):
        require_computes(after, head_of(content, table), b"")


def test_a_deep_release_has_another_front(tmp_path: Path) -> None:
    store, policy = PackStore(tmp_path), LoadPolicy()
    choice = ModelChoice("facekeep-detector/onnx-fp32", "facekeep-embedder/onnx-fp32")
    before = load_models(store, choice, policy=policy)
    found = find_trainable(store.read_files("facekeep-embedder", "onnx-fp32"))
    assert found is not None
    name, table = found
    content = store.read_files("facekeep-embedder", "onnx-fp32")[name]
    numbers = (read_parameters(content, table) * np.float32(1.01)).astype("<f4").tobytes()
    made = patched(content, table, "deep", numbers, sha256=None)
    released = ReleasedModel("0" * 64, made, hashlib.sha256(made).hexdigest(), before.operating_points)
    after = load_models(store, choice, policy=policy, released=released)
    assert after.feature_base not in (before.feature_base, before.contract_id, after.contract_id)
