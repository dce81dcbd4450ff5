"""Showing that an erasure is complete: the receipt, the trail, and every file of the home and of its copies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from facekeep.errors import ErasureError, VaultError
from facekeep.flows.context import FlowContext
from facekeep.flows.membership import find_membership
from facekeep.flows.release_state import read_release_state
from facekeep.identifiers import require_subject_id
from facekeep.keys.files import read_regular
from facekeep.residue.scanner import Expected, Needle, needles_of_name, needles_of_receipt, scan
from facekeep.residue.verdict import ScanReport
from facekeep.retention import ErasureReceipt

# A description lists three files; whatever is longer is none.
_LONGEST_DESCRIPTION = 1 << 20


class Erasures:
    """The erasures of a device: `device.erasures`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def verify(
        self,
        *,
        subject: str | None = None,
        receipt: ErasureReceipt | None = None,
        also: Sequence[Path] = (),
        known_sha256: Collection[str] = (),
    ) -> ScanReport:
        """Return what a scan of every store found of an erased subject, and of whatever belongs to nobody.

        A name finds what the vault would know the subject by; a receipt finds every copy of the rows that were destroyed. Each
        sees what the other cannot: give both where both are at hand, or neither to look only for what belongs to nobody.

        Args:
            subject: the application's identifier of who was erased.
            receipt: what `withdraw` handed out.
            also: directories with copies of the home.
            known_sha256: hashes of files that may lie there whatever they hold.

        Raises:
            ErasureError: "erasure.not_erased" when the subject is on record, "erasure.invalid_receipt" when another device made
                the receipt or the trail does not hold its entry.
        """
        vault = self._context.vault
        if receipt is not None:
            self._require_recorded(receipt)
        if subject is not None:
            with vault.transaction(durable=False) as transaction:
                if transaction.find_subject(require_subject_id(subject)) is not None:
                    raise ErasureError("erasure.not_erased", "The subject is in the vault. Withdraw first: facekeep withdraw.")
        inspection = vault.inspection()
        inspection.empty_log()
        needles: list[Needle] = []
        if subject is not None:
            needles += needles_of_name(subject, inspection.index_tag(subject))
        if receipt is not None:
            needles += needles_of_receipt(receipt)
        # The model files of adopted releases and the files of the training kit are dense, and nobody's.
        known = {*known_sha256, *self._adopted(), *self._training_kit()}
        expected = Expected(envelopes=inspection.envelopes(), sha256=known, is_current_keystore=inspection.is_current_keystore)
        return scan(inspection.home, needles, expected, also=also)

    def _adopted(self) -> set[str]:
        with self._context.vault.transaction(durable=False) as transaction:
            state = read_release_state(transaction)
        return set() if state is None else {item.model for item in state.kept}

    def _training_kit(self) -> frozenset[str]:
        # Imported here: a device that trains nothing does not load what training takes.
        from facekeep.training.kit import DESCRIPTION_FILE, KIT_DIRECTORY, kit_hashes

        with self._context.vault.transaction(durable=False) as transaction:
            membership = find_membership(transaction)
        if membership is None or membership.policy.training_kit is None:
            return frozenset()
        try:
            description = read_regular(self._context.vault.home / KIT_DIRECTORY / DESCRIPTION_FILE, _LONGEST_DESCRIPTION)
        except (OSError, VaultError):
            # A file that is not the kit's is searched like any other, and so is one that cannot be read.
            return frozenset()
        return kit_hashes(description, sha256=membership.policy.training_kit)

    def _require_recorded(self, receipt: ErasureReceipt) -> None:
        vault = self._context.vault
        if receipt.public_key != vault.device_key.public_bytes:
            raise ErasureError("erasure.invalid_receipt", "Another device made the receipt.")
        oldest: int | None = None
        with vault.transaction(durable=False) as transaction:
            for body in transaction.trail_since(receipt.inclusion.seq):
                if body == receipt.inclusion.entry:
                    return
                break
            oldest = transaction.oldest_entry
        # An entry whose own term is over is proved by the signed head in the receipt, and by nothing on the device any more.
        if oldest <= receipt.inclusion.seq:
            raise ErasureError("erasure.invalid_receipt", "The trail of this device does not hold the entry of the receipt.")
