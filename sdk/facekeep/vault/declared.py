"""What subjects declared about themselves, such as a group for a report by groups: sealed, and gone with the subject."""

from __future__ import annotations

from typing import Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.retention import ErasureMark
from facekeep.vault.rows import FeatureAndSampleRows
from facekeep.vault.store import damaged
from facekeep.vault.subjects import SubjectHandle

_SETTING: Final = "declared"
_STORED: Final = f"sealed/{_SETTING}"


class DeclaredValues(FeatureAndSampleRows):
    """Reading and writing them. One sealed setting for all subjects: not even how many declared something can be seen."""

    def declared(self, handle: SubjectHandle) -> str | None:
        """Return what a subject declared, or None.

        Raises:
            VaultError: "vault.sealed" or "vault.corrupt".
        """
        return self._read_declared().get(self._subject(handle).handle.principal_id)

    def declarants(self) -> frozenset[str]:
        """Return the principal ids of those who declared something.

        Raises:
            VaultError: "vault.sealed" or "vault.corrupt".
        """
        return frozenset(self._read_declared())

    def declare(self, handle: SubjectHandle, value: str | None) -> bool:
        """Keep what a subject declares in the place of what it declared before; None for nothing. Return whether there was any.

        `SQLiteVault.shred` is the way in: an older copy of the setting opens no more once the wrap key is rotated.
        """
        self._require_durable()
        kept, principal = self._read_declared(), self._subject(handle).handle.principal_id
        before = kept.pop(principal, None)
        if value is not None:
            kept[principal] = value
        if before is not None and before != value:
            self.shredded.append(ErasureMark.of("declared", self.read_setting(_STORED) or b""))
        if before != value:
            self.write_sealed(_SETTING, to_canonical(kept) if kept else None)
        return before is not None

    def _read_declared(self) -> dict[str, str]:
        stored = self.read_sealed(_SETTING)
        if stored is None:
            return {}
        try:
            return dict(parse_canonical(stored))
        except (ValueError, TypeError):
            raise damaged() from None
