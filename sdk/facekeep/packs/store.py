"""Model packs on a device: what is known, what is here, and nothing loaded that is not the pinned bytes.

Layout of a store: `<pack>/<build>/<file>` for weights, `<pack>/manifest.json` for packs that did not ship, `.parts/` for
downloads under way. Nothing here opens a connection except `PackStore.pull`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from facekeep.errors import ModelError
from facekeep.packs.catalogue import shipped_root
from facekeep.packs.files import Progress, open_regular, read_checked, remove_empty, typed_io, write_atomically
from facekeep.packs.manifest import Build, Manifest, PackFile, require_id
from facekeep.packs.parsing import LARGEST_MANIFEST_BYTES, parse_manifest

if TYPE_CHECKING:
    from facekeep.packs.importing import ImportReport

DEFAULT_TIMEOUT_SECONDS: Final = 30.0
FileState = Literal["ok", "missing", "damaged", "unreadable"]
_MANIFEST_NAME: Final = "manifest.json"
_PARTS: Final = ".parts"


@dataclass(frozen=True, slots=True)
class FileCheck:
    """How one file of an installed build stands.

    Attributes:
        pack_id: the pack.
        build_id: the build.
        name: the file.
        state: "ok", "missing", "damaged" (other size or hash) or "unreadable".
    """

    pack_id: str
    build_id: str
    name: str
    state: FileState


class PackStore:
    """The packs of one device.

    Args:
        directory: where imported and pulled packs lie; made when something is first written.
        catalogue: directories that hold `manifests/<pack>.json` and `weights/<pack>/<build>/<file>`; left out: what ships
            with Facekeep. Nothing is ever written there.
    """

    def __init__(self, directory: str | PathLike[str], catalogue: Sequence[str | PathLike[str]] | None = None) -> None:
        self._directory = Path(directory).expanduser()
        if catalogue is None:
            root = shipped_root()
            self._roots = [] if root is None else [root]
        else:
            self._roots = [Path(root) for root in catalogue]
        self._known: dict[str, Manifest] = {}

    def __repr__(self) -> str:
        return f"PackStore({str(self._directory)!r})"

    @property
    def directory(self) -> Path:
        """Where imported and pulled packs lie."""
        return self._directory

    # What is known

    def manifests(self) -> tuple[Manifest, ...]:
        """Return every known pack, by id.

        Raises:
            ModelError: "model.invalid_manifest" or "model.io", naming the pack to remove.
        """
        return tuple(self.manifest(pack_id) for pack_id in self._ids())

    def manifest(self, pack_id: str) -> Manifest:
        """Return one pack.

        Raises:
            ModelError: "model.unknown_pack" with the names that come close; "model.invalid_manifest"; "model.io".
        """
        if pack_id not in self._known:
            path = self._manifest_path(pack_id)
            if path is None:
                raise self._unknown(pack_id)
            self._known[pack_id] = _read_manifest(path, pack_id)
        return self._known[pack_id]

    def is_shipped(self, pack_id: str) -> bool:
        """Whether the manifest comes with Facekeep, so that nobody can replace it by importing another."""
        path = self._manifest_path(pack_id)
        return path is not None and path.name != _MANIFEST_NAME

    # What is here

    def installed(self, pack_id: str) -> tuple[Build, ...]:
        """Return the builds whose files are all here with the right size. Hashes are checked when a build is read.

        Raises:
            ModelError: as `manifest`.
        """
        return tuple(build for build in self.manifest(pack_id).builds if self._locate(pack_id, build) is not None)

    def has_installed(self, pack_id: str) -> bool:
        """Whether a build of this pack is here; no for a pack that nobody knows.

        Raises:
            ModelError: "model.invalid_manifest" or "model.io".
        """
        return self._manifest_path(pack_id) is not None and bool(self.installed(pack_id))

    def read_files(self, pack_id: str, build_id: str) -> dict[str, bytes]:
        """Return the files of a build, each with the size and SHA-256 that its manifest pins. Checked on every call.

        Raises:
            ModelError: "model.not_installed" with the command that helps, "model.hash_mismatch", "model.invalid_model"
                for a build that no runtime loads, or as `manifest`.
        """
        manifest = self.manifest(pack_id)
        build = manifest.build(build_id)
        if build.unusable_because is not None:
            raise ModelError("model.invalid_model", f"{pack_id}/{build_id} cannot be used: {build.unusable_because}")
        paths = self._locate(pack_id, build)
        if paths is None and self._damaged(pack_id, build):
            raise ModelError(
                "model.hash_mismatch",
                f"{pack_id}/{build_id} is damaged: a file has another size than its manifest says. "
                f"Run: facekeep models remove {pack_id}, then {fix_command(manifest, build)}",
            )
        if paths is None:
            raise ModelError("model.not_installed", f"{pack_id}/{build_id} is not here. Run: {fix_command(manifest, build)}")
        try:
            return {file.name: read_checked(path, file) for file, path in zip(build.files, paths, strict=True)}
        except FileNotFoundError as error:
            raise ModelError("model.not_installed", f"{pack_id}/{build_id} was removed just now.") from error

    def missing_files(self, pack_id: str, build_id: str) -> tuple[str, ...]:
        """Return the names of the files of a build that are not here.

        Raises:
            ModelError: as `manifest`.
        """
        build = self.manifest(pack_id).build(build_id)
        return tuple(file.name for file in build.files if self._find(pack_id, build, file) is None)

    def verify(self, pack_id: str | None = None) -> tuple[FileCheck, ...]:
        """Hash every file of every build that is here, wholly or in part.

        Raises:
            ModelError: as `manifest`.
        """
        ids = self._ids() if pack_id is None else (pack_id,)
        checks: list[FileCheck] = []
        for each in ids:
            for build in self.manifest(each).builds:
                found = [self._find(each, build, file) for file in build.files]
                if any(path is not None for path in found):
                    checks += [
                        FileCheck(each, build.id, file.name, _state(path, file))
                        for file, path in zip(build.files, found, strict=True)
                    ]
        return tuple(checks)

    # What changes the store

    def pull(
        self,
        pack_id: str,
        build_id: str | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Build:
        """Download a build from its official addresses. The only thing in Facekeep that goes to the network by itself.

        Args:
            pack_id: the pack.
            build_id: the build; left out: the first of the pack that has official addresses.
            progress: called after every piece.
            timeout_seconds: for each wait on the network, not for the whole.

        Raises:
            ModelError: "model.download_failed", "model.hash_mismatch", "model.disk_full", "model.io", or as `manifest`.
        """
        # Loaded here and not above: TLS and its kind cost a cold device time that it spends only when it downloads.
        from facekeep.packs.download import fetch

        manifest = self.manifest(pack_id)
        build = manifest.build(build_id) if build_id else next((b for b in manifest.builds if b.can_be_pulled), None)
        if build is None or not build.can_be_pulled:
            reason = build.unusable_because if build and build.unusable_because else "it has no official address"
            name = pack_id if build is None else f"{pack_id}/{build.id}"
            raise ModelError(
                "model.download_failed", f"{name} cannot be pulled: {reason}. Import the file: facekeep models import FILE"
            )
        for file in build.files:
            destination = self._home(pack_id, build) / file.name
            if self._find(pack_id, build, file) is not None and _state(self._find(pack_id, build, file), file) == "ok":
                continue
            # Named by content: two packs that share a file share the part, and a changed manifest never resumes an old one.
            part = self._directory / _PARTS / f"{file.sha256}.part"
            try:
                fetch(file, destination, part, progress=progress, timeout_seconds=timeout_seconds)
            finally:
                remove_empty(part.parent, self._directory)
                remove_empty(destination.parent, self._directory)
        return build

    def import_file(self, path: str | PathLike[str], pack_id: str | None = None) -> ImportReport:
        """Bring in a file that somebody already has; see `facekeep.packs.importing`.

        Args:
            path: a weights file of any name, recognised by its SHA-256, or a manifest that ends in ".json".
            pack_id: the pack the weights belong to; left out: whichever pack pins their hash.

        Raises:
            ModelError: "model.io", "model.unknown_pack", "model.hash_mismatch", "model.invalid_manifest", "model.disk_full".
        """
        from facekeep.packs.importing import import_file

        return import_file(self, Path(path).expanduser(), pack_id)

    def add_file(self, pack_id: str, build: Build, file: PackFile, data: bytes) -> None:
        """Write one file of a build that the caller has checked.

        Raises:
            ModelError: "model.disk_full", "model.io".
        """
        write_atomically(self._home(pack_id, build) / file.name, data)

    def add_manifest(self, manifest: Manifest, data: bytes) -> None:
        """Make a pack known that did not ship.

        Raises:
            ModelError: "model.invalid_manifest" if the id is taken by a shipped pack; "model.disk_full", "model.io".
        """
        self.require_free(manifest.id)
        write_atomically(self._directory / manifest.id / _MANIFEST_NAME, data)
        self._known.pop(manifest.id, None)

    def require_free(self, pack_id: str) -> None:
        """Return if a manifest of this id may be imported.

        Raises:
            ModelError: "model.invalid_manifest".
        """
        if self.is_shipped(pack_id):
            # Substitution: a manifest of the same name could pin other bytes under a trusted name.
            raise ModelError(
                "model.invalid_manifest", f"Pack {pack_id!r} ships with Facekeep and cannot be replaced. Give yours another id."
            )

    def remove(self, pack_id: str) -> int:
        """Delete what was pulled or imported of a pack and return the bytes freed. What ships stays.

        Raises:
            ModelError: "model.unknown_pack"; "model.io".
        """
        path = self._own(pack_id)
        if path is None or not (path.is_dir() or self.is_shipped(pack_id)):
            raise self._unknown(pack_id)
        self._known.pop(pack_id, None)
        if not path.is_dir():
            return 0
        import shutil

        with typed_io(f"removing pack {pack_id}"):
            freed = sum(each.lstat().st_size for each in path.rglob("*") if each.is_file())
            shutil.rmtree(path)
        return freed

    # Where things lie

    def _ids(self) -> tuple[str, ...]:
        ids = {path.stem for root in self._roots for path in (root / "manifests").glob("*.json")}
        ids |= {path.parent.name for path in self._directory.glob(f"*/{_MANIFEST_NAME}")}
        return tuple(sorted(ids))

    def _own(self, pack_id: str) -> Path | None:
        try:
            return self._directory / require_id(pack_id)
        except ValueError:
            return None

    def _manifest_path(self, pack_id: str) -> Path | None:
        own = self._own(pack_id)
        if own is None:
            return None
        candidates = [*(root / "manifests" / f"{pack_id}.json" for root in self._roots), own / _MANIFEST_NAME]
        return next((path for path in candidates if path.is_file()), None)

    def _home(self, pack_id: str, build: Build) -> Path:
        return self._directory / pack_id / build.id

    def _candidates(self, pack_id: str, build: Build, file: PackFile) -> Iterator[Path]:
        yield self._home(pack_id, build) / file.name
        for root in self._roots:
            yield root / "weights" / pack_id / build.id / file.name

    def _find(self, pack_id: str, build: Build, file: PackFile) -> Path | None:
        return next((path for path in self._candidates(pack_id, build, file) if path.exists()), None)

    def _locate(self, pack_id: str, build: Build) -> tuple[Path, ...] | None:
        paths: list[Path] = []
        for file in build.files:
            path = self._find(pack_id, build, file)
            if path is None or not path.is_file() or path.stat().st_size != file.size_bytes:
                return None
            paths.append(path)
        return tuple(paths)

    def _damaged(self, pack_id: str, build: Build) -> bool:
        return all(self._find(pack_id, build, file) is not None for file in build.files)

    def _unknown(self, pack_id: str) -> ModelError:
        import difflib

        ids = self._ids()
        close = difflib.get_close_matches(pack_id[:64], ids, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Known are: {', '.join(ids) or 'none'}."
        return ModelError("model.unknown_pack", f"No pack is called {pack_id[:64]!r}. {hint}")


def split_name(name: str) -> tuple[str, str | None]:
    """Return pack id and build id of "pack/build", or pack id and None of "pack"."""
    pack_id, _, build_id = name.partition("/")
    return pack_id, build_id or None


def fix_command(manifest: Manifest, build: Build) -> str:
    """Return the command that brings a build here."""
    if build.can_be_pulled:
        return f"facekeep models pull {manifest.id}/{build.id}"
    return f"facekeep models import FILE, where FILE is {' and '.join(file.name for file in build.files)}"


def _read_manifest(path: Path, pack_id: str) -> Manifest:
    try:
        with open_regular(path) as stream:
            data = stream.read(LARGEST_MANIFEST_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ModelError("model.io", f"The manifest of {pack_id} cannot be read: {reason}.") from error
    try:
        manifest = parse_manifest(data)
    except ModelError as error:
        raise ModelError(error.code, f"{error.args[0]} It is the one of {pack_id!r} at {path}.") from error
    if manifest.id != pack_id:
        raise ModelError("model.invalid_manifest", f"The manifest at {path} calls itself {manifest.id!r}.")
    return manifest


def _state(path: Path | None, file: PackFile) -> FileState:
    if path is None:
        return "missing"
    try:
        read_checked(path, file)
    except FileNotFoundError:
        return "missing"
    except ModelError as error:
        return "damaged" if error.code == "model.hash_mismatch" else "unreadable"
    return "ok"
