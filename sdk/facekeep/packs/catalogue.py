"""Where the packs that ship with Facekeep lie: their manifests, and the few weights that come along."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def shipped_root() -> Path | None:
    """Return the directory of `facekeep_models`, or None where that distribution is stripped away.

    The package is located, not imported: its recipes may want tools that a device does not have.
    """
    try:
        spec = importlib.util.find_spec("facekeep_models")
    except (ImportError, ValueError):
        return None
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0]) if locations else None
