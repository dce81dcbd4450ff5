"""The models of a device over its life: chosen once, loaded when first used, followed when a release takes their place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from facekeep.assembly.choice import ModelChoice
from facekeep.assembly.choosing import choose_models
from facekeep.assembly.loading import Inference, LoadedModels, Loader, ReleasedModel, find_trainable, identity_of, load_models
from facekeep.audit import AuditEvent
from facekeep.biometric import OperatingPoint
from facekeep.contract import ModelIdentity, contract_id, describe_contract
from facekeep.errors import ModelError, ReleaseError
from facekeep.flows.context import Settings
from facekeep.flows.workshop import STATE_SETTING, TrainableModel
from facekeep.note import unsafe_note_text
from facekeep.packs import LoadPolicy, PackStore
from facekeep.vault import SQLiteVault, VaultTransaction

# Only a device that adopted a release, or is about to, loads these.
if TYPE_CHECKING:
    from facekeep.flows.release_state import KeptRelease, ReleaseState
    from facekeep.packs.releases import ReleaseStore
    from facekeep.protocol.release import ModelRelease
    from facekeep.training.patching import PatchTable

MODELS_SETTING: Final = "models"


class ModelWorkshop:
    """Implements `facekeep.flows.workshop.Workshop` over model packs and adopted releases.

    Args:
        vault: keeps the choice and which release is in use.
        packs: where packs lie.
        policy: which of them are acceptable.
        settings: how they run.
        choice: what was asked for, or what the vault kept; None for the best installed.
        switch_models: whether other packs may be used although templates are stored.
    """

    def __init__(
        self,
        vault: SQLiteVault,
        packs: PackStore,
        policy: LoadPolicy,
        settings: Settings,
        choice: ModelChoice | None,
        *,
        switch_models: bool,
    ) -> None:
        self._vault, self._packs, self._policy, self.choice = vault, packs, policy, choice
        self._inference = Inference(settings.threads, settings.providers, settings.longest_side)
        self._switch_models = switch_models
        self._chosen: ModelChoice | None = None
        self._revision = -1
        self._in_use: str | None = None
        self._earlier: dict[str, LoadedModels] = {}

    def load(self) -> LoadedModels:
        """Return the models this device uses now.

        Raises:
            ModelError, ReleaseError, VaultError: with a stable code.
        """
        choice = self._require_choice()
        with self._vault.transaction(durable=False) as transaction:
            is_known = transaction.read_setting(MODELS_SETTING) == choice.to_bytes()
            kept, self._revision = _in_use(transaction, choice), transaction.revision
        models = self._open(choice, None if kept is None else self._released(kept))
        if not is_known:
            self._activate(models)
        self.choice, self._in_use = choice, models.release
        self._earlier.clear()
        return models

    def is_stale(self) -> bool:
        """Whether another release came into use since `load`, by this process or by another. Costs a look at the vault's head."""
        if self._chosen is None or self._in_use is None or self._vault.revision == self._revision:
            return False
        with self._vault.transaction(durable=False) as transaction:
            kept, self._revision = _in_use(transaction, self._chosen), transaction.revision
        return (kept.digest if kept else "") != self._in_use

    # What `facekeep.flows.workshop.Workshop` promises

    def trainable(self) -> TrainableModel:
        """Return the model in use, whatever `load` last returned."""
        choice = self._require_choice()
        with self._vault.transaction(durable=False) as transaction:
            kept = _in_use(transaction, choice)
        shipped, base, table = self._shipped(choice)
        content = shipped if kept is None else self._store().read_model(kept.digest, kept.model)
        contract = self._contract(choice, None if kept is None else kept.model)
        detector, embedder = choice.detector or "", choice.embedder or ""
        return TrainableModel(content, table, base, kept.digest if kept else base, contract, detector, embedder)

    def table(self) -> PatchTable:
        """Return where in the model file the trainable numbers lie, opening no release."""
        return self._shipped(self._require_choice())[2]

    def contract_of(self, model_sha256: str) -> str:
        """Return the contract of embeddings made with a model file in the place of the one that shipped."""
        return self._contract(self._require_choice(), model_sha256)

    def describe_contract(self) -> dict[str, object]:
        """Return what the contract of the packs in use hashes, for whoever makes releases and has no packs."""
        return describe_contract(*self._identities(self._require_choice()))

    def build(self, content: bytes, release: ModelRelease) -> LoadedModels:
        """Return the models of a release that is not in use."""
        return self._open(self._require_choice(), ReleasedModel(release.digest, content, release.model, _points(release)))

    def content_of(self, digest: str) -> tuple[bytes, ModelRelease | None]:
        """Return model file and release of a digest; of "" the file that shipped, and None."""
        if not digest:
            return self._shipped(self._require_choice())[0], None
        release = self._note(digest)
        return self._store().read_model(digest, release.model), release

    def models_of(self, contract_id: str) -> LoadedModels | None:
        """Return the models of an earlier contract, or None where none is known; kept for the next time."""
        choice = self._require_choice()
        if contract_id not in self._earlier:
            with self._vault.transaction(durable=False) as transaction:
                state = _state(transaction, choice)
            if state is None:
                return None
            kept = next((item for item in state.kept if item.contract == contract_id), None)
            if kept is None and contract_id != state.origin:
                return None
            self._earlier[contract_id] = self._open(choice, None if kept is None else self._released(kept))
        return self._earlier[contract_id]

    def stage(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a release."""
        self._store().stage(digest, files)

    def hold(self) -> AbstractContextManager[None]:
        """Hold the files of releases against other processes."""
        return self._store().hold()

    def discard_except(self, needed: Callable[[], Collection[str]]) -> None:
        """Remove the files of all other releases."""
        self._store().discard_except(needed)

    def _open(self, choice: ModelChoice, released: ReleasedModel | None) -> LoadedModels:
        return load_models(self._packs, choice, policy=self._policy, inference=self._inference, released=released)

    def _require_choice(self) -> ModelChoice:
        # Measured once, then kept: templates of another build belong to another contract. Opens no release: going back has to be
        # possible while the one in use cannot be opened.
        if self._chosen is None:
            asked = self.choice or ModelChoice(None, None, ())
            self._chosen = choose_models(self._packs, asked, policy=self._policy, inference=self._inference)
        return self._chosen

    def _shipped(self, choice: ModelChoice) -> tuple[bytes, str, PatchTable]:
        """Return the model file that shipped, its hexadecimal SHA-256, which reading it has checked, and its patch table."""
        manifest, build = Loader(self._packs, self._policy, self._inference).find(choice.embedder or "", "embedding")
        files = self._packs.read_files(manifest.id, build.id)
        found = find_trainable(files)
        if found is None:
            raise ReleaseError("release.wrong_model", f"{manifest.id}/{build.id} cannot be trained: it has no patch table.")
        name, table = found
        return files[name], next(file.sha256 for file in build.files if file.name == name), table

    def _identities(self, choice: ModelChoice) -> tuple[ModelIdentity, ModelIdentity]:
        """Return what the contract hashes of the detector and of the embedder as it shipped."""
        loader = Loader(self._packs, self._policy, self._inference)
        detector = identity_of(*loader.find(choice.detector or "", "detection"))
        return detector, identity_of(*loader.find(choice.embedder or "", "embedding"))

    def _contract(self, choice: ModelChoice, model_sha256: str | None) -> str:
        detector, embedder = self._identities(choice)
        return contract_id(detector, embedder if model_sha256 is None else embedder.made_of(model_sha256))

    def _released(self, kept: KeptRelease) -> ReleasedModel:
        content = self._store().read_model(kept.digest, kept.model)
        return ReleasedModel(kept.digest, content, kept.model, _points(self._note(kept.digest)))

    def _note(self, digest: str) -> ModelRelease:
        from facekeep.protocol.release import ModelRelease

        note = self._store().read_note(digest)
        release = ModelRelease.parse(unsafe_note_text(note))
        # The vault says which release was adopted; its thresholds are believed only if this is the one.
        if release.digest != digest:
            raise ReleaseError("release.none", "The note of the release was changed. Roll back, or adopt a newer release.")
        return release

    def _store(self) -> ReleaseStore:
        from facekeep.packs.releases import ReleaseStore

        return ReleaseStore(self._vault.home / "releases")

    def _activate(self, models: LoadedModels) -> None:
        choice = models.choice
        with self._vault.transaction() as transaction:
            stranded = sum(count for contract, count in transaction.contracts().items() if contract != models.contract_id)
            if stranded and not self._switch_models:
                raise ModelError(
                    "model.other_in_use",
                    f"{stranded} stored template(s) belong to other models than {choice.detector} and {choice.embedder}: nobody "
                    "enrolled before would be recognised. Leave the choice out, or switch on purpose (--switch-models).",
                )
            transaction.write_setting(MODELS_SETTING, choice.to_bytes())
            details: dict[str, str | int | bool] = {
                "contract": models.contract_id,
                "detector": choice.detector or "",
                "embedder": choice.embedder or "",
                "pad": ",".join(choice.pads),
            }
            transaction.append_event(AuditEvent("model.activated", details=details))


def _state(transaction: VaultTransaction, choice: ModelChoice) -> ReleaseState | None:
    stored = transaction.read_setting(STATE_SETTING)
    if not stored:
        return None
    from facekeep.flows.release_state import ReleaseState

    state = ReleaseState.parse(stored)
    # Over other packs the releases mean nothing: the device was switched to those on purpose.
    return state if state.is_over(choice.detector, choice.embedder) else None


def _in_use(transaction: VaultTransaction, choice: ModelChoice) -> KeptRelease | None:
    state = _state(transaction, choice)
    return state.in_use if state is not None else None


def _points(release: ModelRelease) -> tuple[OperatingPoint, ...]:
    # A point travels with the same fields as it stays: see `facekeep.protocol.release.ReleasedPoint`.
    return tuple(OperatingPoint(**asdict(point)) for point in release.operating_points)
