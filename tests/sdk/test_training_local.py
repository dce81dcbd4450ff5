"""Local training: by NumPy and by `train.onnx`, the same loss; typed errors for what is not a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.packs import PackStore
from facekeep.runtime import open_session
from facekeep.training import (
    HEAD,
    LocalResult,
    TrainingSamples,
    TrainingSettings,
    embed_features,
    hardest,
    head_loss,
    parse_parameter_table,
    parse_patch_table,
    read_parameters,
    train_locally,
)

LAYOUT = parse_parameter_table([["a.scale", [3]], [HEAD, [8, 6]]])
PLAN = TrainingSettings(steps=12, batch=4, rate=0.05, negatives=5, keep=0.5)


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return result


class Little:
    """A device with two people, an embedder of eight numbers, and twenty anchors."""

    def __init__(self, seed: int = 0, samples: int = 7) -> None:
        random = np.random.default_rng(seed)
        self.parameters = random.normal(size=LAYOUT.length).astype(np.float32)
        self.features = random.normal(size=(samples, 6)).astype(np.float32)
        self.labels = np.arange(samples) % 2
        self.centres = unit(random.normal(size=(2, 8)))
        self.anchors = unit(random.normal(size=(20, 8)))

    def train(self, settings: TrainingSettings = PLAN, **changes: Any) -> LocalResult:
        given = {
            "level": "head",
            "parameters": self.parameters,
            "samples": TrainingSamples(self.labels, features=self.features),
            "centres": self.centres,
            "anchors": self.anchors,
        } | changes
        named = {name: given.pop(name) for name in ("level", "parameters", "samples", "centres", "anchors")}
        return train_locally(*named.values(), settings, table=LAYOUT, **given)


def code_of(call: Any) -> str:
    with pytest.raises(FederationError) as caught:
        call()
    return caught.value.code


def test_training_brings_samples_to_their_centres() -> None:
    device = Little()
    result = device.train(replace(PLAN, steps=40, keep=0.0, batch=16))
    assert (result.steps, result.stopped_early, result.update.shape) == (40, False, (48,))
    assert result.losses[-1] < 0.5 * result.losses[0]
    before = embed_features(LAYOUT.head_of(device.parameters), device.features)
    moved = device.parameters.copy()
    moved[LAYOUT.range_of("head")] += result.update
    after = embed_features(LAYOUT.head_of(moved), device.features)
    own = device.centres[device.labels]
    assert ((after * own).sum(1) > (before * own).sum(1)).all()


def test_staying_near_the_old_model() -> None:
    device = Little()
    start = embed_features(LAYOUT.head_of(device.parameters), device.features)

    def nearness(keep: float) -> float:
        moved = device.parameters.copy()
        moved[3:] += device.train(replace(PLAN, keep=keep, steps=100, rate=0.02, batch=16)).update
        return float((embed_features(LAYOUT.head_of(moved), device.features) * start).sum(1).mean())

    assert nearness(20.0) > nearness(0.0) + 0.05


def test_staying_near_the_own_centre() -> None:
    device = Little()
    own = device.centres[device.labels]

    def nearness(near: Literal["start", "centre"]) -> float:
        moved = device.parameters.copy()
        moved[3:] += device.train(replace(PLAN, keep=20.0, keep_near=near, steps=100, rate=0.02, batch=16)).update
        return float((embed_features(LAYOUT.head_of(moved), device.features) * own).sum(1).mean())

    assert nearness("centre") > nearness("start") + 0.05
    given = TrainingSamples(device.labels, features=device.features, references=own)
    assert np.array_equal(device.train(samples=given).update, device.train(replace(PLAN, keep_near="centre")).update)


def test_the_same_arguments_give_the_same_update() -> None:
    device = Little(samples=9)
    for plan in (PLAN, replace(PLAN, optimiser="adam", schedule="cosine", mine_every=3)):
        assert np.array_equal(device.train(plan).update, device.train(plan).update)
        assert not np.array_equal(device.train(plan).update, device.train(plan, seed=1).update)


def test_early_stop() -> None:
    device = Little()
    stopped = device.train(replace(PLAN, rate=1e-6, patience=2, least_improvement=0.1, batch=16))
    # The first loss is the best; the second and the third are no better by a tenth.
    assert (stopped.steps, stopped.stopped_early, len(stopped.losses)) == (2, True, 3)
    assert not device.train(replace(PLAN, rate=0.05, patience=11, batch=16)).stopped_early


def test_nothing_of_the_samples_is_shown() -> None:
    device = Little()
    samples = TrainingSamples(device.labels, features=device.features)
    shown = repr(samples) + repr(device.train())
    assert "array" not in shown
    assert f"{device.features[0, 0]:.3f}" not in shown
    assert samples.features is not None
    with pytest.raises(ValueError, match="read-only"):
        samples.features[0, 0] = 1
    # Whoever wipes what the samples were made of wipes the samples.
    device.features[:] = 0
    assert not samples.features.any()
    update = Little().train().update
    with pytest.raises(ValueError, match="read-only"):
        update[0] = 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(bad: float) -> None:
    for name in ("parameters", "features", "centres", "anchors"):
        device = Little()
        getattr(device, name).flat[-1] = bad
        assert code_of(device.train) == "federation.invalid_update", name


def test_numbers_that_run_away_are_refused() -> None:
    device = Little()
    device.features *= np.float32(1e30)
    device.parameters *= np.float32(1e30)
    assert code_of(device.train) == "federation.invalid_update"
    zero = Little()
    zero.features[:] = 0
    assert code_of(zero.train) == "federation.invalid_update"


def test_what_does_not_fit_is_refused() -> None:
    device = Little()
    nobody = TrainingSamples(device.labels + 5, features=device.features)
    assert code_of(lambda: device.train(samples=nobody)) == "federation.invalid_update"
    assert code_of(lambda: device.train(centres=device.centres * 2)) == "federation.invalid_update"
    assert code_of(lambda: device.train(anchors=device.anchors[:, :4])) == "federation.invalid_update"
    assert code_of(lambda: device.train(anchors=device.anchors[:0])) == "federation.invalid_update"
    assert code_of(lambda: device.train(parameters=device.parameters[1:])) == "federation.invalid_update"
    assert code_of(lambda: device.train(parameters=device.parameters.astype(np.float64))) == "federation.invalid_update"
    assert code_of(lambda: device.train(level="all")) == "federation.plan_refused"
    crops = TrainingSamples(device.labels, crops=np.zeros((7, 112, 112, 3), np.uint8))
    assert code_of(lambda: device.train(samples=crops)) == "federation.nothing_to_contribute"
    assert code_of(lambda: device.train(level="deep")) == "federation.nothing_to_contribute"
    assert code_of(lambda: device.train(level="deep", samples=crops)) == "federation.plan_refused"
    other = TrainingSamples(device.labels, features=device.features, references=np.zeros((7, 8), np.float32))
    assert code_of(lambda: device.train(samples=other)) == "federation.invalid_update"


def test_samples_belong_together() -> None:
    labels, features = np.zeros(2, np.int64), np.zeros((2, 6), np.float32)
    for bad in (
        {"labels": labels},
        {"labels": labels[:0], "features": features[:0]},
        {"labels": labels - 1, "features": features},
        {"labels": labels.astype(np.int32), "features": features},
        {"labels": labels, "features": features[:1]},
        {"labels": labels, "features": features.astype(np.float64)},
        {"labels": labels, "features": features, "references": features[:1]},
        {"labels": labels, "crops": np.zeros((2, 112, 112), np.uint8)},
        {"labels": labels, "crops": np.zeros((2, 112, 112, 3), np.float32)},
    ):
        with pytest.raises(ValueError, match="are"):
            TrainingSamples(**bad)  # type: ignore[arg-type]


@given(seed=st.integers(0, 2**31), count=st.integers(1, 30))
def test_the_hardest_anchors_are_the_nearest(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    anchors, vectors = unit(random.normal(size=(20, 4))), unit(random.normal(size=(3, 4)))
    chosen = hardest(anchors, vectors, count)
    slow = sorted(range(20), key=lambda row: (-max(float(anchors[row] @ vector) for vector in vectors), row))
    assert len(chosen) == min(count, 20)
    nearness = (anchors @ vectors.T).max(1)
    np.testing.assert_allclose(nearness[chosen], nearness[slow[: len(chosen)]], atol=1e-6)
    assert hardest(np.tile(anchors[:1], (5, 1)), vectors, 3).tolist() == [0, 1, 2]


@examples(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), samples=st.integers(1, 6), classes=st.integers(1, 7))
def test_the_head_in_numpy_is_torch(seed: int, samples: int, classes: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra build)")
    pytest.importorskip("onnx", reason="onnx is not installed (extra build)")
    from facekeep_models.training.gradients.torch_graph import margin_loss, unit_rows

    random = np.random.default_rng(seed)
    head = random.normal(size=(8, 6)).astype(np.float32)
    features = random.normal(size=(samples, 6)).astype(np.float32)
    centres, references = unit(random.normal(size=(classes, 8))), unit(random.normal(size=(samples, 8)))
    labels = random.integers(0, classes, samples)
    plan = replace(PLAN, margin=float(random.uniform(0, 0.5)), scale=float(random.uniform(1, 40)), keep=float(random.uniform(0, 5)))
    found = head_loss(head, features, centres, labels, references, plan)
    leaf = torch.from_numpy(head).double().requires_grad_()
    vectors = unit_rows(torch.from_numpy(features).double() @ leaf.T)
    numbers = {"margin": plan.margin, "scale": plan.scale, "keep": plan.keep}
    loss = margin_loss(
        vectors,
        torch.from_numpy(centres).double(),
        torch.from_numpy(labels),
        torch.from_numpy(references).double(),
        **numbers,
    )
    loss.backward()
    assert found.loss == pytest.approx(loss.item(), rel=1e-9, abs=1e-12)
    expected = leaf.grad.numpy().ravel()
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()) + 1e-9)
    np.testing.assert_allclose(found.embeddings, vectors.detach().numpy(), atol=1e-6)


class Shipped:
    """The embedder that ships, its training graph, and pictures of two people whom noise drew."""

    def __init__(self) -> None:
        onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra build)")
        from facekeep_models.training.gradients.training_graph import training_graph

        files = PackStore("/nonexistent/facekeep-test-store").read_files("facekeep-embedder", "onnx-fp32")
        model = files["facekeep_embedder.onnx"]
        self.patch = parse_patch_table(files["facekeep_embedder.patch.json"])
        self.table, self.parameters = self.patch.parameters, read_parameters(model, self.patch)
        self.session = open_session("onnx", {"a.onnx": training_graph(onnx.load_from_string(model)).SerializeToString()})
        self.embedder = open_session("onnx", {"a.onnx": model})
        random = np.random.default_rng(0)
        people = random.integers(0, 256, (2, 112, 112, 3)).astype(np.float64)
        self.labels = np.arange(6) % 2
        noise = random.normal(0, 40, (6, 112, 112, 3))
        self.crops = np.clip(people[self.labels] + noise, 0, 255).astype(np.uint8)
        raw, self.features = self.embedder.run({"crop": self.crops.transpose(0, 3, 1, 2).astype(np.float32)})
        self.vectors = unit(raw)
        self.centres = unit(np.stack([self.vectors[self.labels == one].mean(0) for one in range(2)]))
        self.anchors = unit(random.normal(size=(64, 256)) * 0.05 + self.vectors.mean(0))


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped()


def test_the_head_by_numpy_is_the_head_by_the_graph(shipped: Shipped) -> None:
    plan = TrainingSettings(batch=6, margin=0.3, scale=12.0, keep=0.7)
    references = unit(shipped.vectors + 0.3 * np.random.default_rng(1).normal(size=shipped.vectors.shape) / 16)
    around = np.concatenate([shipped.centres, shipped.anchors[:9]])
    feeds = {
        "parameters": shipped.parameters,
        "crops": shipped.crops.transpose(0, 3, 1, 2).astype(np.float32),
        "centres": around,
        "labels": shipped.labels,
        "references": references,
        **{name: np.array(getattr(plan, name), np.float32) for name in ("margin", "scale", "keep")},
    }
    graph = dict(zip(shipped.session.outputs, shipped.session.run(feeds), strict=True))
    head = shipped.table.head_of(shipped.parameters)
    numpy = head_loss(head, shipped.features, around, shipped.labels, references, plan)
    assert numpy.loss == pytest.approx(float(graph["loss"]), rel=1e-5)
    expected = graph["gradient"][shipped.table.range_of("head")]
    assert np.linalg.norm(numpy.gradient - expected) < 1e-5 * np.linalg.norm(expected)
    np.testing.assert_allclose(numpy.embeddings, graph["embeddings"], atol=1e-5)


@pytest.mark.parametrize("level", ["channels", "deep"])
def test_training_by_the_graph(shipped: Shipped, level: str) -> None:
    plan = TrainingSettings(steps=3, batch=4, optimiser="adam", rate=1e-3, keep=0.1, negatives=16, mine_every=2)
    samples = TrainingSamples(shipped.labels, crops=shipped.crops)

    def train(parameters: NDArray[np.float32] = shipped.parameters, plan: TrainingSettings = plan) -> LocalResult:
        given = (level, parameters, samples, shipped.centres, shipped.anchors, plan)
        return train_locally(*given, table=shipped.table, session=shipped.session)

    result = train()
    assert result.update.shape == (shipped.table.length_of(level),)
    assert np.array_equal(result.update, train().update)
    moved = shipped.parameters.copy()
    moved[shipped.table.range_of(level)] += result.update
    whole = replace(plan, steps=1, batch=6)
    assert train(moved, whole).losses[0] < train(plan=whole).losses[0]


def test_the_first_layers_alone_take_the_step_they_take_among_all(shipped: Shipped) -> None:
    length = 992
    plan = TrainingSettings(steps=1, batch=6, rate=0.05, keep=0.1, negatives=16)
    samples = TrainingSamples(shipped.labels, crops=shipped.crops)

    def train(length: int | None, plan: TrainingSettings = plan) -> LocalResult:
        given = ("channels", shipped.parameters, samples, shipped.centres, shipped.anchors, plan)
        return train_locally(*given, table=shipped.table, session=shipped.session, length=length)

    whole, first = train(None), train(length)
    assert np.array_equal(first.update, whole.update[:length])
    assert first.losses == whole.losses
    # From the second step on they differ: the others did not move.
    twice = replace(plan, steps=2)
    assert train(length, twice).update.shape == (length,)
    assert not np.array_equal(train(length, twice).update, train(None, twice).update[:length])
    for wrong in (0, 991, 993, shipped.table.length):
        with pytest.raises(FederationError) as caught:
            train(wrong)
        assert caught.value.code == "federation.plan_refused"


def test_the_head_needs_no_pictures_and_agrees_with_deep(shipped: Shipped) -> None:
    plan = TrainingSettings(steps=1, batch=6, rate=0.5, keep=0.2, negatives=16)
    settled = (shipped.centres, shipped.anchors, plan)
    head = train_locally(
        "head", shipped.parameters, TrainingSamples(shipped.labels, features=shipped.features), *settled, table=shipped.table
    )
    deep = train_locally(
        "deep",
        shipped.parameters,
        TrainingSamples(shipped.labels, crops=shipped.crops),
        *settled,
        table=shipped.table,
        session=shipped.session,
    )
    part = deep.update[shipped.table.range_of("head")]
    assert np.linalg.norm(head.update - part) < 1e-4 * np.linalg.norm(part)


def test_a_batch_in_parts_is_the_whole_batch(shipped: Shipped) -> None:
    samples = TrainingSamples(np.tile(shipped.labels, 3), crops=np.tile(shipped.crops, (3, 1, 1, 1)))
    plan = TrainingSettings(steps=1, batch=18, rate=1.0, negatives=16)
    settled = (shipped.centres, shipped.anchors)
    in_parts = train_locally("deep", shipped.parameters, samples, *settled, plan, table=shipped.table, session=shipped.session)
    once = TrainingSamples(shipped.labels, crops=shipped.crops)
    whole = train_locally(
        "deep", shipped.parameters, once, *settled, replace(plan, batch=6), table=shipped.table, session=shipped.session
    )
    # Each sample is there three times, so the mean is the same.
    assert np.linalg.norm(in_parts.update - whole.update) < 1e-4 * np.linalg.norm(whole.update)
    assert in_parts.losses[0] == pytest.approx(whole.losses[0], rel=1e-5)


class Broken:
    """A runtime that answers with what is no number."""

    outputs = ("loss", "gradient", "embeddings")

    def __init__(self, name: str, value: float) -> None:
        self.name, self.value = name, value

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        vectors = np.zeros((len(feeds["crops"]), 8), np.float32)
        vectors[:, 0] = 1
        answer = {
            "loss": np.array(0.5, np.float32),
            "gradient": np.zeros(LAYOUT.length, np.float32),
            "embeddings": vectors,
        }
        answer[self.name] = np.full_like(answer[self.name], self.value)
        return [answer[name] for name in self.outputs]


@pytest.mark.parametrize("name", ["loss", "gradient", "embeddings"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_runtime_that_answers_with_no_numbers(name: str, value: float) -> None:
    device = Little()
    samples = TrainingSamples(device.labels, crops=np.zeros((7, 112, 112, 3), np.uint8))
    assert code_of(lambda: device.train(level="deep", samples=samples, session=Broken(name, value))) == "federation.invalid_update"
