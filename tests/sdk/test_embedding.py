from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.contract import InputContract
from facekeep.embedding import CosineEmbedder, mean_direction
from facekeep.errors import ComparisonError, ModelError
from tests.reference import resampling as reference
from tests.sdk.fake_sessions import FakeSession

CONTRACT = InputContract("NCHW", "BGR", (128, 128), crop="arcface-112")
BATCH = ("batch", 3, 128, 128)


def answering(vector: np.ndarray, shape: tuple[int | str | None, ...] = BATCH) -> FakeSession:
    return FakeSession(["out"], lambda tensor: {"out": np.stack([vector] * len(tensor))}, shape)


def crop(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)


def test_a_vector_is_flattened_and_has_length_one() -> None:
    embedder = CosineEmbedder(answering(np.array([3.0, 4.0], np.float32).reshape(2, 1, 1)), CONTRACT, 2)
    vector = embedder.embed(crop())
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, [0.6, 0.8], atol=1e-7)


def test_the_tensor_is_the_crop_resized_as_opencv_does() -> None:
    session = answering(np.ones(4, np.float32))
    CosineEmbedder(session, CONTRACT, 4).embed(crop())
    expected = reference.resize(crop(), 128, 128)[:, :, ::-1].transpose(2, 0, 1)
    assert session.seen[0].shape == (1, 3, 128, 128)
    assert np.abs(session.seen[0][0] - expected).max() <= reference.GREY_LEVELS


def test_a_batch_runs_once_where_the_model_takes_batches() -> None:
    free, fixed = answering(np.ones(4, np.float32)), answering(np.ones(4, np.float32), (1, 3, 128, 128))
    crops = [crop(seed) for seed in range(3)]
    assert CosineEmbedder(free, CONTRACT, 4).embed_batch(crops).shape == (3, 4)
    assert CosineEmbedder(fixed, CONTRACT, 4).embed_batch(crops).shape == (3, 4)
    assert (len(free.seen), len(fixed.seen)) == (1, 3)
    assert CosineEmbedder(free, CONTRACT, 4).embed_batch([]).shape == (0, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e30])
def test_a_vector_without_a_direction_is_refused(bad: float) -> None:
    embedder = CosineEmbedder(answering(np.full(4, bad, np.float32)), CONTRACT, 4)
    with pytest.raises(ComparisonError) as caught:
        embedder.embed(crop())
    assert caught.value.code == "comparison.invalid_embedding"


def test_a_vector_of_another_length_is_a_wrong_model() -> None:
    with pytest.raises(ModelError) as caught:
        CosineEmbedder(answering(np.ones(5, np.float32)), CONTRACT, 4).embed(crop())
    assert caught.value.code == "model.invalid_model"
    two = FakeSession(["a", "b"], lambda _: {})
    with pytest.raises(ModelError):
        CosineEmbedder(two, CONTRACT, 4)
    with pytest.raises(ModelError) as caught:
        CosineEmbedder(answering(np.ones(4, np.float32)), InputContract("NCHW", "BGR", None), 4)
    assert caught.value.code == "model.invalid_manifest"


def with_features(vector: np.ndarray, features: np.ndarray, names: tuple[str, ...] = ("out", "features")) -> FakeSession:
    given = {"out": vector, "embedding": vector, "features": features}
    return FakeSession(names, lambda tensor: {name: np.stack([given[name]] * len(tensor)) for name in names}, BATCH)


@pytest.mark.parametrize("names", [("embedding", "features"), ("features", "embedding")])
def test_features_come_beside_the_vector(names: tuple[str, ...]) -> None:
    vector, features = np.array([3.0, 4.0], np.float32), np.array([1.0, 2.0, 3.0], np.float32)
    embedder = CosineEmbedder(with_features(vector, features, names), CONTRACT, 2)
    found, before = embedder.embed_with_features(crop())
    np.testing.assert_allclose(found, [0.6, 0.8], atol=1e-7)
    np.testing.assert_array_equal(before, features)
    np.testing.assert_array_equal(embedder.embed(crop()), found)
    assert embedder.has_features
    assert embedder.embed_batch([crop(), crop(1)]).shape == (2, 2)


def test_no_features_no_answer() -> None:
    embedder = CosineEmbedder(answering(np.ones(4, np.float32)), CONTRACT, 4)
    assert not embedder.has_features
    with pytest.raises(ModelError, match="no output"):
        embedder.embed_with_features(crop())
    for bad in (np.nan, np.inf):
        broken = CosineEmbedder(with_features(np.ones(2, np.float32), np.full(3, bad, np.float32)), CONTRACT, 2)
        with pytest.raises(ComparisonError) as caught:
            broken.embed_with_features(crop())
        assert caught.value.code == "comparison.invalid_embedding"
    empty = CosineEmbedder(with_features(np.ones(2, np.float32), np.ones(0, np.float32)), CONTRACT, 2)
    with pytest.raises(ModelError, match="features of one face"):
        empty.embed_with_features(crop())
    with pytest.raises(ModelError, match="perhaps"):
        CosineEmbedder(FakeSession(["embedding", "features", "more"], lambda _: {}), CONTRACT, 2)


@pytest.mark.parametrize("bad", [np.zeros((112, 112), np.uint8), np.zeros((112, 112, 3), np.float32)])
def test_only_crops_are_embedded(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="crop"):
        CosineEmbedder(answering(np.ones(4, np.float32)), CONTRACT, 4).embed(bad)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 8))
def test_the_mean_direction_is_a_unit_vector_near_all(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=32)
    vectors = [(v / np.linalg.norm(v)).astype(np.float32) for v in base + 0.3 * rng.normal(size=(count, 32))]
    mean = mean_direction(vectors)
    assert mean.dtype == np.float32
    assert float(mean @ mean) == pytest.approx(1, abs=1e-5)
    total = sum(float(mean @ v) for v in vectors)
    assert all(total >= sum(float(v @ w) for w in vectors) - 1e-4 for v in vectors)


def test_opposite_vectors_have_no_mean() -> None:
    with pytest.raises(ComparisonError):
        mean_direction([np.array([1, 0], np.float32), np.array([-1, 0], np.float32)])
