"""Settings that hold something to keep secret: sealed under the wrap key, so that an older copy of them does not open."""

from __future__ import annotations

from typing import Final

from facekeep.sealing import SettingContext, seal, unseal
from facekeep.vault.subjects import require_wrap_key
from facekeep.vault.working import WorkingState

_PREFIX: Final = "sealed/"


class SealedSettings(WorkingState):
    """Reading and writing them."""

    def read_sealed(self, name: str) -> bytes | None:
        """Return a sealed setting, or None.

        Raises:
            VaultError: "vault.sealed" if it does not open.
        """
        envelope = self.read_setting(_PREFIX + name)
        return self._unseal(_PREFIX + name, envelope) if envelope else None

    def write_sealed(self, name: str, plaintext: bytes | None) -> None:
        """Seal and set a setting; None empties it."""
        known = self.read_setting(_PREFIX + name)
        if plaintext is not None or known:
            self.write_setting(_PREFIX + name, b"" if plaintext is None else self._seal(_PREFIX + name, plaintext, self._epoch))

    def _reseal(self, epoch: int) -> None:
        """Put every sealed setting under the wrap key of `epoch`; the one they are under is about to be destroyed."""
        names = [key.decode("utf-8") for key in self._tables.setting_slots if key.startswith(_PREFIX.encode())]
        for name in names:
            envelope = self.read_setting(name)
            if envelope:
                self.write_setting(name, self._seal(name, self._unseal(name, envelope), epoch))

    def _seal(self, name: str, plaintext: bytes, epoch: int) -> bytes:
        secrets = self._keystore.secrets
        context = SettingContext(secrets.vault_id, name, epoch)
        return seal(require_wrap_key(secrets, epoch), plaintext, context, self._randomness, epoch=epoch)

    def _unseal(self, name: str, envelope: bytes) -> bytes:
        secrets = self._keystore.secrets
        context = SettingContext(secrets.vault_id, name, self._epoch)
        return unseal(require_wrap_key(secrets, self._epoch), envelope, context, epoch=self._epoch)
