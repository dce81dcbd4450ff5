"""Fixtures for all tests."""

from __future__ import annotations

import os

# Before any test module imports ONNX Runtime by itself: it would report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The weights and pictures of ../shared, other people's work that is never committed."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"{SHARED} is not here: real weights and pictures are not part of the repository")
    return SHARED
