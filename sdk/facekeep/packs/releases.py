"""Files of adopted releases, below the home of the device: written whole before anything uses them, read only as what was adopted.

Layout: `<home>/releases/<digest>/release.note`, `model.onnx`, and `release.proof` where the federation has a log. Directory and
files are for their owner only.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from facekeep.canonical import HEX_DIGEST
from facekeep.errors import ReleaseError, VaultError
from facekeep.keys.files import (
    create_private,
    hold_directory,
    make_private_directory,
    read_regular,
    sync_directory,
    typed_os_errors,
)

NOTE_FILE: Final = "release.note"
MODEL_FILE: Final = "model.onnx"
PROOF_FILE: Final = "release.proof"
_LARGEST: Final = 1 << 30
_STAGING: Final = ".staging-"
# As long as another process may take to adopt a release: it opens models, and moves every template.
_HELD_SECONDS: Final = 120.0


class ReleaseStore:
    """The files of releases.

    Args:
        directory: made when the first release is staged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        return "ReleaseStore()"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the files of releases: no other process stages or discards any meanwhile.

        Raises:
            VaultError: "vault.busy" if another holds them for minutes, "vault.disk_full", "vault.read_only", "vault.io".
        """
        make_private_directory(self._directory)
        with hold_directory(self._directory, _HELD_SECONDS):
            yield

    def stage(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a release: all of them, on the disk, before the directory has its name. Callers hold the files.

        Raises:
            VaultError: "vault.disk_full", "vault.read_only", "vault.io"; then nothing of it is left.
        """
        target, staging = self._place(digest), self._directory / f"{_STAGING}{digest}"
        try:
            with typed_os_errors("stage the release"):
                for old in (staging, target):
                    if old.exists():
                        shutil.rmtree(old)
                staging.mkdir(mode=0o700)
                for name, content in files.items():
                    create_private(staging / name, content)
                staging.rename(target)
                sync_directory(self._directory)
        except VaultError:
            shutil.rmtree(staging, ignore_errors=True)
            raise

    def read_model(self, digest: str, sha256: str) -> bytes:
        """Return the model file of a release.

        Raises:
            ReleaseError: "release.none" if it is not there, or not the one that was adopted.
        """
        content = self._read(digest, MODEL_FILE)
        # What is run is what was hashed: a file changed on the disk is no release.
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ReleaseError("release.none", "A file of the release was changed. Roll back, or adopt a newer release.")
        return content

    def read_note(self, digest: str) -> str:
        """Return the note of a release, unverified.

        Raises:
            ReleaseError: "release.none" if it is not there.
        """
        return self._read(digest, NOTE_FILE).decode("utf-8", "replace")

    def discard_except(self, needed: Callable[[], Collection[str]]) -> None:
        """Remove every other release, and what a crash left of staging one. `needed` is asked while the files are held.

        Raises:
            VaultError: as `hold`.
        """
        if not self._directory.is_dir():
            return
        with self.hold(), contextlib.suppress(OSError):
            digests = needed()
            for path in self._directory.iterdir():
                if path.name not in digests:
                    shutil.rmtree(path, ignore_errors=True)

    def _read(self, digest: str, name: str) -> bytes:
        try:
            return read_regular(self._place(digest) / name, _LARGEST)
        except (OSError, VaultError):
            raise ReleaseError("release.none", "A file of the release is not here. Roll back, or adopt a newer release.") from None

    def _place(self, digest: str) -> Path:
        # It becomes a directory.
        if not HEX_DIGEST.fullmatch(digest):
            raise ValueError("a release is named by 64 hexadecimal digits")
        return self._directory / digest
