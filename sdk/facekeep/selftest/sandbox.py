"""The directory a selftest happens in, and the search of what lies in it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from facekeep.errors import SelftestError

# Where a library might write behind our back; the watched process is told that these are its places.
_ELSEWHERE = ("tmp", "cwd", "user")
_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")


class Sandbox:
    """A private directory with a home for the device and decoys for everything else.

    Args:
        keep: directory to make it in and leave it in; a temporary one, removed at the end, if left out.

    Raises:
        SelftestError: "selftest.failed" if it cannot be made.
    """

    def __init__(self, keep: Path | None) -> None:
        try:
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root = Path(tempfile.mkdtemp(prefix="facekeep-selftest-", dir=keep)).resolve()
            self.home = self.root / "home"
            for name in ("home", *_ELSEWHERE):
                (self.root / name).mkdir(mode=0o700)
        except OSError as error:
            raise SelftestError("selftest.failed", f"No directory for the selftest can be made: {error.strerror}.") from None
        self._keep = keep is not None

    def environment(self) -> dict[str, str]:
        """Return the environment of the watched process: every usual place to write lies in the sandbox."""
        kept = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        user = str(self.root / "user")
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"), user)
        temporary = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(self.root / "tmp"))
        return {**kept, **places, **temporary, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def cwd(self) -> Path:
        """Working directory of the watched process."""
        return self.root / "cwd"

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield path below the sandbox and content of every file in it, as far as it can be read."""
        for directory, names, files in os.walk(self.root, followlinks=False):
            for name in [*names, *files]:
                path = Path(directory, name)
                try:
                    content = _content(path)
                except FileNotFoundError:
                    continue  # Gone since it was listed.
                if content is not None:
                    yield str(path.relative_to(self.root)), content

    def strays(self) -> list[str]:
        """Return what lies in the places where nothing may be written."""
        return sorted(str(path.relative_to(self.root)) for name in _ELSEWHERE for path in (self.root / name).rglob("*"))

    def remove(self) -> None:
        """Remove everything, unless it is kept."""
        if not self._keep:
            shutil.rmtree(self.root, ignore_errors=True)


def _content(path: Path) -> bytes | None:
    """Return what a name leads to: the bytes of a file, where a link points, nothing for a directory; None for a pipe."""
    kind = path.lstat().st_mode
    if stat.S_ISREG(kind):
        return path.read_bytes()
    if stat.S_ISLNK(kind):
        return os.fsencode(path.readlink())
    return None if stat.S_ISFIFO(kind) else b""
