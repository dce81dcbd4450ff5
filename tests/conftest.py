"""Fixtures for all tests."""

from __future__ import annotations

import os

# Before any test module imports ONNX Runtime by itself: it would report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# The workers of pytest-xdist share the cores: linear algebra with a thread for each core in every one of them is slower for all.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The weights and pictures of ../shared, other people's work that is never committed."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"{SHARED} is not here: real weights and pictures are not part of the repository")
    return SHARED
