"""What ships: the manifests of every pack that Facekeep knows, and the few weights that come along.

`facekeep.packs` finds these directories without importing this package: a device needs the files, not the recipes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent
# One file for each pack, `<pack>.json`; docs/formats/model-pack.md.
MANIFESTS: Final = ROOT / "manifests"
# `<pack>/<build>/<file>`: only what the project itself made.
WEIGHTS: Final = ROOT / "weights"
