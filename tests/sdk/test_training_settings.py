from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import FederationError
from facekeep.training import TrainingSettings, parse_training_settings
from facekeep.training.optimising import LocalOptimiser, rate_at

PLAN = TrainingSettings(steps=8, batch=4, optimiser="adam", rate=0.01, schedule="cosine", warm_up=2, patience=3, mine_every=2)


def test_settings_travel_as_canonical_json() -> None:
    for each in (PLAN, TrainingSettings()):
        assert parse_training_settings(parse_canonical(to_canonical(each.to_value()))) == each


@given(rate=st.floats(1e-6, 10), margin=st.floats(0, 1), keep=st.floats(0, 100))
def test_every_number_survives(rate: float, margin: float, keep: float) -> None:
    settings = replace(PLAN, rate=rate, margin=margin, keep=keep)
    assert parse_training_settings(settings.to_value()) == settings


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"steps": 10_000},
        {"steps": True},
        {"steps": "8"},
        {"steps": 8.0},
        {"batch": 65},
        {"batch": 0},
        {"optimiser": "lbfgs"},
        {"optimiser": None},
        {"schedule": ["cosine"]},
        {"keep_near": "end"},
        {"rate": "0"},
        {"rate": "1e9"},
        {"rate": "nan"},
        {"rate": "inf"},
        {"rate": "0.010"},
        {"rate": " 0.01"},
        {"rate": "1_0.0"},
        {"rate": 1},
        {"rate": 0.01},
        {"rate": "0." + "1" * 100},
        {"momentum": "1.0"},
        {"margin": "-0.1"},
        {"scale": "1000.0"},
        {"keep": "-0.0001"},
        {"negatives": 0},
        {"negatives": 10**6},
        {"warm_up": 9},
        {"patience": -1},
        {"least_improvement": "2.0"},
        {"more": 1},
    ],
)
def test_a_plan_cannot_ask_for_anything_else(change: dict[str, Any]) -> None:
    with pytest.raises(FederationError) as caught:
        parse_training_settings(PLAN.to_value() | change)
    assert caught.value.code == "federation.malformed"


def test_every_member_is_needed() -> None:
    for field in fields(TrainingSettings):
        with pytest.raises(FederationError):
            parse_training_settings({name: value for name, value in PLAN.to_value().items() if name != field.name})
    for other in ([], None, "settings", 3):
        with pytest.raises(FederationError):
            parse_training_settings(other)


def test_schedules() -> None:
    constant = replace(PLAN, schedule="constant")
    assert [rate_at(constant, step) for step in range(4)] == pytest.approx([0.005, 0.01, 0.01, 0.01])
    linear = replace(PLAN, schedule="linear", warm_up=0, steps=4, rate=1.0)
    assert [rate_at(linear, step) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])
    cosine = replace(linear, schedule="cosine")
    assert [rate_at(cosine, step) for step in range(4)] == pytest.approx([1, 0.8536, 0.5, 0.1464], abs=1e-4)
    assert rate_at(replace(PLAN, steps=2, warm_up=2), 1) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_optimisers_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra build)")
    plan = replace(PLAN, optimiser="adam" if name == "adam" else "sgd", schedule="constant", warm_up=0)
    plan = replace(plan, momentum=0.9 if name == "momentum" else 0.0)
    weights = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    theirs = (
        torch.optim.Adam([weights], lr=plan.rate)
        if name == "adam"
        else torch.optim.SGD([weights], lr=plan.rate, momentum=plan.momentum)
    )
    ours, row = LocalOptimiser(plan, 5), np.zeros(5)
    random = np.random.default_rng(0)
    for _ in range(6):
        gradient = random.normal(size=5)
        weights.grad = torch.from_numpy(gradient)
        theirs.step()
        row += ours.change(gradient)
        np.testing.assert_allclose(row, weights.detach().numpy(), rtol=1e-7)
