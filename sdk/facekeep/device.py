"""A device: wires the vault, the models and the clock to the flows. The facade of the README."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from facekeep.assembly import MODELS_SETTING, ModelChoice, ModelWorkshop
from facekeep.audit import TrailReport
from facekeep.biometric import Decision, Identification
from facekeep.clock import Clock, SystemClock
from facekeep.consent import ConsentGrant
from facekeep.flows.acquisition import Source, is_single
from facekeep.flows.context import FlowContext, Models, Settings
from facekeep.flows.gallery import GalleryCache
from facekeep.flows.opening import create_or_open, usable_path
from facekeep.packs import LoadPolicy, PackStore
from facekeep.ports import KeyProvider
from facekeep.vault import SQLiteVault

# Each flow is imported where it is first used: a cold device that only verifies loads only that.
if TYPE_CHECKING:
    from facekeep.confirmation import PendingIdentification
    from facekeep.flows.confirmations import Confirmations
    from facekeep.flows.consents import Consents, SubjectSummary
    from facekeep.flows.enrol import EnrolmentReceipt
    from facekeep.flows.erasures import Erasures
    from facekeep.flows.federation import Federation
    from facekeep.flows.log import DeviceLog
    from facekeep.flows.operators import Operators
    from facekeep.flows.retain import Retention
    from facekeep.flows.revocations import Revocations
    from facekeep.retention import ErasureReceipt

_RETENTION_SETTING = "retention.policy"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What can be said of a device without opening a template.

    Attributes:
        vault_id: random identifier of the vault.
        public_key: hexadecimal Ed25519 key that signs its consents and its trail.
        models: the packs and builds it uses, or None before the first use of a model.
    """

    vault_id: str
    public_key: str
    models: ModelChoice | None


class Device:
    """Face recognition that stays here. Safe to use from several threads; several processes may share one home.

    Use `Device.open`; close it, or use it as a context manager.
    """

    def __init__(
        self,
        vault: SQLiteVault,
        packs: PackStore,
        *,
        clock: Clock,
        settings: Settings,
        choice: ModelChoice | None,
        policy: LoadPolicy,
        models: Models | None = None,
        switch_models: bool = False,
    ) -> None:
        self._vault, self._packs, self._models = vault, packs, models
        self._workshop = ModelWorkshop(vault, packs, policy, settings, choice, switch_models=switch_models)
        self._is_from_packs = models is None
        self._lock = threading.Lock()
        self._next_look: datetime | None = None
        gallery, workshop = GalleryCache(settings.gallery_idle, settings.gallery_precision), self._workshop
        self._context = FlowContext(vault, clock, settings, gallery, self._load_models, workshop if self._is_from_packs else None)

    @classmethod
    def open(
        cls,
        home: str | PathLike[str],
        *,
        key: KeyProvider,
        detector: str | None = None,
        embedder: str | None = None,
        pads: Sequence[str] | None = None,
        packs: PackStore | None = None,
        models: Models | None = None,
        switch_models: bool = False,
        policy: LoadPolicy | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        mode: Literal["create-or-open", "open", "create"] = "create-or-open",
        keep_retention: bool = True,
    ) -> Device:
        """Open the device at `home`, creating vault, device key and audit trail on first use.

        Args:
            home: directory of the vault; "~" is expanded. Made with access for its owner only.
            key: who guards the master key: `Passphrase`, `KeyFile`, `OSKeyring` or a provider of your own.
            detector: "pack" or "pack/build"; left out: what this vault used before, else the best installed.
            embedder: likewise.
            pads: packs for presentation attack detection, all of which have to agree; left out: as before, else none.
            packs: where model packs lie; left out: "packs" under `home`.
            models: detector, embedder and their contract of your own (see `facekeep.ports`), instead of packs.
            switch_models: let other packs than before be used although templates are stored: those are not recognised until
                their subjects enrol again.
            policy: which licences and training data are acceptable.
            settings: thresholds, floors, limits.
            clock: what tells the time.
            mode: "open" never creates, "create" never opens.
            keep_retention: whether what is due under an adopted policy is destroyed now and on the first call of each day;
                without it, only by `retention.run`: for looking at a plan before anything happens.

        Raises:
            VaultError: with a stable code. No model is loaded here, so no model error.
        """
        clock, settings = clock or SystemClock(), settings or Settings()
        where = usable_path(home)
        vault = create_or_open(where, key, clock, settings, mode)
        try:
            with vault.transaction(durable=False) as transaction:
                stored = transaction.read_setting(MODELS_SETTING)
                has_policy = transaction.read_setting(_RETENTION_SETTING) is not None
            kept = ModelChoice.parse(stored) if stored is not None else None
            asked = None
            if detector is not None or embedder is not None or pads is not None:
                asked = ModelChoice(
                    detector or (kept.detector if kept else None),
                    embedder or (kept.embedder if kept else None),
                    tuple(pads) if pads is not None else (kept.pads if kept else ()),
                )
            device = cls(
                vault,
                packs or PackStore(where / "packs"),
                clock=clock,
                settings=settings,
                choice=asked or kept,
                policy=policy or LoadPolicy(),
                models=models,
                switch_models=switch_models,
            )
            if keep_retention:
                # A policy adopted by another process is noticed on the next day.
                device._next_look = clock.now() + timedelta(days=0 if has_policy else 1)
                if has_policy:
                    device.retention.keep_if_possible("start")
            return device
        except BaseException:
            vault.close()
            raise

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Device(vault={self._vault.vault_id})"

    def close(self) -> None:
        """Let go of the vault and wipe opened templates. Calling it twice does no harm."""
        # In this order: a search that waits for its turn finds the vault closed and opens no gallery after the wipe.
        self._vault.close()
        self._context.gallery.wipe()

    @cached_property
    def consents(self) -> Consents:
        """The consents of this device: ask, grant, refuse, require, withdraw, show, receipts, policy."""
        from facekeep.flows.consents import Consents

        return Consents(self._context)

    @cached_property
    def retention(self) -> Retention:
        """The retention of this device: adopt a policy, plan, run, certificates."""
        from facekeep.flows.retain import Retention

        if self._next_look is not None:
            self._next_look = self._context.clock.now()
        return Retention(self._context)

    @cached_property
    def erasures(self) -> Erasures:
        """The erasures of this device: prove one complete."""
        from facekeep.flows.erasures import Erasures

        return Erasures(self._context)

    @cached_property
    def revocations(self) -> Revocations:
        """The revocation lists of this device: import one, see which was seen last."""
        from facekeep.flows.revocations import Revocations

        return Revocations(self._context)

    @cached_property
    def operators(self) -> Operators:
        """The operators of this device, for the two-person rule: add, remove, list."""
        from facekeep.flows.operators import Operators

        return Operators(self._context)

    @cached_property
    def confirmations(self) -> Confirmations:
        """The identifications that wait for operators: adopt a rule, confirm, open."""
        from facekeep.flows.confirmations import Confirmations

        return Confirmations(self._context)

    @cached_property
    def log(self) -> DeviceLog:
        """The transparency log of this device: enrol, submit, sync, status. All but status use the network."""
        from facekeep.flows.log import DeviceLog

        return DeviceLog(self._context)

    @cached_property
    def federation(self) -> Federation:
        """The federation of this device: join, leave, keep samples, answer rounds, adopt releases. Opens no connection."""
        from facekeep.flows.federation import Federation

        return Federation(self._context)

    def enrol(self, subject: str, frames: Source | Iterable[Source], grant: ConsentGrant) -> EnrolmentReceipt:
        """Make a sealed template of `subject` from one or more frames of one sitting.

        Args:
            subject: the application's identifier.
            frames: a frame, an (H, W, 3) uint8 RGB array, a picture file, a camera, or several of these.
            grant: what `consents.grant` returned for this subject.

        Returns:
            The receipt: reference id and a quality report for each frame.

        Raises:
            ConsentError, AcquisitionError, EnrolmentError, ComparisonError, VaultError, ModelError: with a stable code.
        """
        from facekeep.flows.enrol import enrol

        self._keep_retention()
        sources = [frames] if is_single(frames) else frames
        return enrol(self._context, subject, sources, grant)  # type: ignore[arg-type]

    def verify(self, subject: str, frame: Source, *, target_fmr: float | None = None) -> Decision:
        """Decide whether the face in `frame` is `subject`.

        Args:
            subject: the identity claimed.
            frame: a frame, an array, a picture file or a camera.
            target_fmr: false match rate to decide at; the setting if left out.

        Raises:
            ConsentError, AcquisitionError, EnrolmentError, ComparisonError, VaultError, ModelError: with a stable code.
        """
        from facekeep.flows.verify import verify

        self._keep_retention()
        wanted = self._context.settings.target_fmr if target_fmr is None else target_fmr
        return verify(self._context, subject, frame, target_fmr=wanted)

    def identify(
        self, frame: Source, *, target_fpir: float | None = None, margin: float | None = None
    ) -> Identification | PendingIdentification:
        """Find who this is, among those who consented to identification; sealed under the two-person rule (`confirmations`).

        Args:
            frame: a frame, an array, a picture file or a camera.
            target_fpir: false positive identification rate of the whole search; the setting if left out.
            margin: cosine by which the best must lead the runner-up; the setting if left out.

        Raises:
            ConsentError, AcquisitionError, ComparisonError, VaultError, ModelError, ConfirmationError: with a stable code.
        """
        from facekeep.flows.identify import identify

        self._keep_retention()
        settings = self._context.settings
        return identify(
            self._context,
            frame,
            target_fpir=settings.target_fpir if target_fpir is None else target_fpir,
            margin=settings.margin if margin is None else margin,
        )

    def withdraw(self, subject: str) -> ErasureReceipt:
        """End every consent of `subject` at once and destroy what was stored under it. Needs no model.

        Raises:
            ConsentError: "consent.none" when nothing is on record.
            VaultError: with a stable code.
        """
        from facekeep.flows.withdraw import withdraw

        return withdraw(self._context, subject)

    def subjects(self) -> tuple[SubjectSummary, ...]:
        """Return everyone on record.

        Raises:
            ConsentError: "consent.corrupt". VaultError: with a stable code.
        """
        return self.consents.subjects()

    def rotate_keys(self) -> int:
        """Re-wrap every data key under a new wrap key, destroy the old one and return the new epoch.

        Raises:
            VaultError: with a stable code.
        """
        return self._vault.rotate_keys()

    def verify_trail(self) -> TrailReport:
        """Check the whole audit trail against its signed head.

        Raises:
            AuditError: with a stable code and the place.
        """
        return self._vault.verify_trail()

    def verify_vault(self) -> None:
        """Check every row of the vault and open every envelope.

        Raises:
            VaultError: "vault.corrupt" and its kind.
        """
        self._vault.verify()

    def trail_entries(self) -> tuple[bytes, ...]:
        """Return the entries of the audit trail, canonical JSON, oldest first."""
        return tuple(self._vault.trail_entries())

    def trail_note(self) -> str:
        """Return the signed head of the audit trail (C2SP signed note)."""
        return self._vault.trail_note()

    def templates_by_contract(self) -> dict[str, int]:
        """Return the number of stored templates under each contract; only those of the models in use can be compared."""
        with self._vault.transaction(durable=False) as transaction:
            return transaction.contracts()

    def info(self) -> DeviceInfo:
        """Return what can be said of this device without opening a template."""
        return DeviceInfo(self._vault.vault_id, self._vault.device_key.public_bytes.hex(), self._workshop.choice)

    @property
    def packs(self) -> PackStore:
        """Where this device's model packs lie."""
        return self._packs

    def _keep_retention(self) -> None:
        # What is due may not be used: where it cannot be destroyed, the call that would use it ends in the reason.
        if self._next_look is not None and self._context.clock.now() >= self._next_look:
            self.retention.keep()

    def _load_models(self) -> Models:
        with self._lock:
            # Another process may have adopted a release: its templates are of another contract from then on.
            if self._models is None or (self._is_from_packs and self._workshop.is_stale()):
                self._models = self._load_chosen()
            return self._models

    def _load_chosen(self) -> Models:
        return self._workshop.load()
