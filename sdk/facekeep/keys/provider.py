"""Key providers that need no extra package: a passphrase and a key file."""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from facekeep.errors import VaultError
from facekeep.keys.files import create_private, read_regular, typed_os_errors
from facekeep.randomness import Randomness, SystemRandomness

MASTER_KEY_BYTES = 32
_SYSTEM_RANDOMNESS = SystemRandomness()

Parameters = Mapping[str, str | int]


class MasterKeySource(Protocol):
    """What a keystore asks of a key provider; `facekeep.ports.KeyProvider` says it in full."""

    @property
    def kind(self) -> str:
        """Short name that the keystore records."""
        ...

    def create(self) -> Parameters:
        """Return the public parameters for a new keystore."""
        ...

    def master_key(self, parameters: Parameters) -> bytes:
        """Return the 32-byte master key that these parameters lead to."""
        ...


class Passphrase:
    """A passphrase, stretched by Argon2id (RFC 9106): by default 64 MiB, three passes, four lanes.

    Args:
        text: the passphrase; NFC-normalised, so that one typed on another keyboard is the same.
        memory_kib: memory of a new keystore's derivation.
        iterations: its passes.
        randomness: where the salt comes from.

    Raises:
        VaultError: "vault.insecure_key" for fewer than 8 characters.
    """

    kind = "passphrase"
    shortest = 8
    # What a keystore may ask for. More would let a forged header exhaust the device; less would let a careless one be guessed.
    _memory_kib = range(8 * 1024, 1024 * 1024 + 1)
    _iterations = range(1, 17)
    _lanes = range(1, 17)

    def __init__(
        self,
        text: str,
        *,
        memory_kib: int = 64 * 1024,
        iterations: int = 3,
        randomness: Randomness = _SYSTEM_RANDOMNESS,
    ) -> None:
        if not isinstance(text, str) or len(text) < self.shortest or not text.strip():
            raise VaultError("vault.insecure_key", f"A passphrase has at least {self.shortest} characters. Choose a longer one.")
        try:
            self._secret = unicodedata.normalize("NFC", text).encode("utf-8")
        except UnicodeEncodeError:
            raise VaultError("vault.insecure_key", "The passphrase is not valid text. Type it again.") from None
        if memory_kib not in self._memory_kib or iterations not in self._iterations:
            raise VaultError("vault.insecure_key", "Argon2id needs 8 MiB to 1 GiB of memory and 1 to 16 passes.")
        self._cost = (memory_kib, iterations)
        self._randomness = randomness

    def __repr__(self) -> str:
        return "Passphrase(...)"

    def create(self) -> Parameters:
        """Return a fresh salt and the cost."""
        memory_kib, iterations = self._cost
        return {
            "kdf": "argon2id",
            "salt": self._randomness.token(16).hex(),
            "memory_kib": memory_kib,
            "iterations": iterations,
            "lanes": 4,
        }

    def master_key(self, parameters: Parameters) -> bytes:
        """Return the derived key.

        Raises:
            VaultError: "vault.corrupt" if the parameters are not in range.
        """
        salt, memory, iterations, lanes = (parameters.get(name) for name in ("salt", "memory_kib", "iterations", "lanes"))
        try:
            salt_bytes = bytes.fromhex(str(salt))
        except ValueError:
            salt_bytes = b""
        # Membership in a range also refuses text, and checks before any memory is taken.
        if (
            set(parameters) != {"kdf", "salt", "memory_kib", "iterations", "lanes"}
            or parameters["kdf"] != "argon2id"
            or len(salt_bytes) != 16
            or not (isinstance(memory, int) and memory in self._memory_kib)
            or not (isinstance(iterations, int) and iterations in self._iterations)
            or not (isinstance(lanes, int) and lanes in self._lanes)
        ):
            raise VaultError("vault.corrupt", "The keystore asks for a derivation out of range. Restore keys.fkk from a backup.")
        derivation = Argon2id(salt=salt_bytes, length=MASTER_KEY_BYTES, iterations=iterations, lanes=lanes, memory_cost=memory)
        return derivation.derive(self._secret)


class KeyFile:
    """A file with 32 random bytes, made on first use, readable by its owner only.

    Keep it on another medium than the vault where you can: who holds both holds the templates.

    Args:
        path: where the file is or will be; its directory has to exist.
        randomness: where a new key comes from.
    """

    kind = "key-file"
    _marker = "facekeep-key-1 "

    def __init__(self, path: str | Path, *, randomness: Randomness = _SYSTEM_RANDOMNESS) -> None:
        self._path = Path(path).expanduser()
        self._randomness = randomness

    def __repr__(self) -> str:
        return "KeyFile(...)"

    def create(self) -> Parameters:
        """Make the file if there is none, and return no parameters but its format.

        Raises:
            VaultError: "vault.insecure_key", "vault.no_key", or why the file cannot be written.
        """
        with typed_os_errors("create the key file"):
            try:
                create_private(self._path, self.encode(self._randomness.token(MASTER_KEY_BYTES)))
            except FileExistsError:
                self._read()
        return {"format": self._marker.strip()}

    def master_key(self, parameters: Parameters) -> bytes:
        """Return the 32 bytes of the file.

        Raises:
            VaultError: "vault.no_key" if there is none or it holds no key, "vault.insecure_key" if it is a link or others
                can reach it, "vault.corrupt" for parameters of another format.
        """
        if dict(parameters) != {"format": self._marker.strip()}:
            raise VaultError("vault.corrupt", "The keystore asks for a key file of another format.")
        return self._read()

    @classmethod
    def encode(cls, key: bytes) -> bytes:
        """Return the one line of a key file."""
        return f"{cls._marker}{base64.b64encode(key).decode('ascii')}\n".encode("ascii")

    @classmethod
    def parse(cls, content: bytes) -> bytes:
        """Return the key of a key file's content.

        Raises:
            VaultError: "vault.no_key".
        """
        marker = cls._marker.encode("ascii")
        try:
            key = base64.b64decode(content.removeprefix(marker).removesuffix(b"\n"), validate=True)
        except (ValueError, binascii.Error):
            key = b""
        # Spelled out again and compared, so that one key has one file.
        if len(key) != MASTER_KEY_BYTES or cls.encode(key) != content:
            raise VaultError("vault.no_key", "The file is not a Facekeep key file: one line, facekeep-key-1 and 44 characters.")
        return key

    def _read(self) -> bytes:
        with typed_os_errors("read the key file"):
            try:
                content = read_regular(self._path, 4096, owner_only=True)
            except FileNotFoundError:
                raise VaultError(
                    "vault.no_key", "There is no key file at the path given. Attach the medium that holds it."
                ) from None
            except VaultError as error:
                if error.code == "vault.corrupt":
                    raise VaultError("vault.no_key", "What lies at the path given is not a key file.") from None
                raise
        return self.parse(content)
