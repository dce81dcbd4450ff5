"""Tools that talk too much."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what tools print to standard error, and drop what they log below a warning of consequence.

    Standard output holds one JSON line for each build. ONNX Runtime's quantiser warns of every model that was not prepared by its
    own tool, which here has nothing left to prepare.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)
