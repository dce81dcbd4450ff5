"""Where the page goes: a directory for its owner only, and never over something that is not a demo's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from facekeep.errors import DemoError

MARKER_NAME: Final = ".facekeep-demo"
MARKER_TEXT: Final = "facekeep demo 1\nThis directory was made by `facekeep demo` and may be deleted as a whole.\n"


class OutputDirectory:
    """The directory of one demo.

    Args:
        path: made with access for its owner only where it is not there; an empty one, or one that an earlier demo made,
            is used again.

    Raises:
        DemoError: "demo.refused_directory" if it is something else or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._made_here = False
        try:
            self._claim()
        except OSError as error:
            raise DemoError("demo.refused_directory", f"{self.path} cannot be used for the demo: {error.strerror}.") from None

    def write(self, name: str, data: bytes) -> Path:
        """Write a file whole or not at all, readable for its owner only, and return its path.

        Raises:
            DemoError: "demo.refused_directory".
        """
        target, part = self.path / name, self.path / f".{name}.part"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            part.replace(target)
        except OSError as error:
            raise DemoError("demo.refused_directory", f"{target} cannot be written: {error.strerror}.") from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return target

    def discard(self) -> None:
        """Take back a directory that holds nothing but the marker because the demo did not come to its end."""
        with contextlib.suppress(OSError):
            if self._made_here and [path.name for path in self.path.iterdir()] == [MARKER_NAME]:
                (self.path / MARKER_NAME).unlink()
                self.path.rmdir()

    def _claim(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
            self._made_here = True
        elif not self.path.is_dir():
            raise DemoError("demo.refused_directory", f"{self.path} is a file. Name a directory with --out.")
        elif any(self.path.iterdir()) and not self._has_marker():
            # What lies there is somebody's work: index.html is a common name.
            raise DemoError(
                "demo.refused_directory", f"{self.path} is not empty and was not made by a demo. Name a new directory with --out."
            )
        self.write(MARKER_NAME, MARKER_TEXT.encode())

    def _has_marker(self) -> bool:
        marker = self.path / MARKER_NAME
        try:
            return marker.is_file() and not marker.is_symlink() and marker.read_bytes() == MARKER_TEXT.encode()
        except OSError:
            return False
