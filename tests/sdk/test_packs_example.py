"""The example in docs/formats/model-pack.md is a manifest."""

from __future__ import annotations

import re
from pathlib import Path

from facekeep.packs import parse_manifest

PAGE = Path(__file__).parents[2] / "docs/formats/model-pack.md"


def test_the_worked_example_parses() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    manifest = parse_manifest(example.encode())
    assert manifest.id == "example-embedder"
    assert manifest.builds[0].operating_points[0].fmr == 0.001
