"""What the flows of a federation need of the models beyond running them: the file in use, its patch, other models, staging."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from facekeep.errors import ReleaseError

# For types alone: a device without a federation loads none of it.
if TYPE_CHECKING:
    from facekeep.flows.context import Models
    from facekeep.protocol.release import ModelRelease
    from facekeep.training import PatchTable

# Kept by `facekeep.flows.release_state`; here, so that a device that never adopted a release does not load it.
STATE_SETTING: Final = "release.state"


@dataclass(frozen=True, slots=True)
class TrainableModel:
    """The model file in use, and what of it may be trained and replaced.

    Attributes:
        content: of the file: as it shipped, or as the release in use made it.
        table: where in it the trainable numbers lie.
        base: hexadecimal SHA-256 of the file that shipped.
        in_use: what a plan names as its base: digest of the release in use, or `base` where there is none.
        contract_id: of the embeddings it makes.
        detector: "pack/build" in use.
        embedder: "pack/build" in use.
    """

    content: bytes = field(repr=False)
    table: PatchTable
    base: str
    in_use: str
    contract_id: str
    detector: str
    embedder: str


class Workshop(Protocol):
    """Makes, keeps and finds the models of releases. Wired by `facekeep.device`; absent where models were brought by the caller."""

    def trainable(self) -> TrainableModel:
        """Return the model in use.

        Raises:
            ReleaseError: "release.wrong_model" if nothing of it can be trained. ModelError: as loading does.
        """
        ...

    def table(self) -> PatchTable:
        """Return where in the model file the trainable numbers lie, opening no release.

        Raises:
            ReleaseError: "release.wrong_model" if nothing of it can be trained. ModelError: as loading does.
        """
        ...

    def contract_of(self, model_sha256: str) -> str:
        """Return the contract of embeddings made with a model file in the place of the one that shipped."""
        ...

    def describe_contract(self) -> dict[str, object]:
        """Return what the contract of the packs in use hashes (`facekeep.contract.describe_contract`)."""
        ...

    def build(self, content: bytes, release: ModelRelease) -> Models:
        """Return the models of a release that is not in use, opened from these bytes.

        Raises:
            ModelError: "model.invalid_model" if the runtime refuses the file.
        """
        ...

    def content_of(self, digest: str) -> tuple[bytes, ModelRelease | None]:
        """Return model file and release of a digest; of "" the file that shipped, and None.

        Raises:
            ReleaseError: "release.none" if they are not here whole. ModelError: as loading does.
        """
        ...

    def models_of(self, contract_id: str) -> Models | None:
        """Return the models of an earlier contract, or None where none is known; kept for the next time.

        Raises:
            ReleaseError, ModelError: if they are known and cannot be opened.
        """
        ...

    def hold(self) -> AbstractContextManager[None]:
        """Hold the files of releases: no other process stages or discards any meanwhile.

        Raises:
            VaultError: "vault.busy" if another holds them for minutes, "vault.disk_full", "vault.read_only", "vault.io".
        """
        ...

    def stage(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a release, whole and on the disk before this returns; nothing uses them yet. Callers hold the files.

        Raises:
            VaultError: "vault.disk_full", "vault.read_only", "vault.io".
        """
        ...

    def discard_except(self, needed: Callable[[], Collection[str]]) -> None:
        """Remove the files of all other releases, as far as that is possible. `needed` is asked while the files are held.

        Raises:
            VaultError: as `hold`.
        """
        ...


def require_workshop(workshop: Workshop | None) -> Workshop:
    """Return the workshop of a device.

    Raises:
        ReleaseError: "release.wrong_model" for a device whose models were brought by the caller.
    """
    if workshop is None:
        raise ReleaseError("release.wrong_model", "The models of this device are not from packs, so no release can replace them.")
    return workshop
