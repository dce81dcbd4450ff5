"""Where the master key comes from, and the keystore it opens.

master key (passphrase, key file, keyring) -> HKDF -> keystore -> wrap keys, device key, index key, head key.
No provider ever falls back to a weaker one: without its secret there is no key.
"""

from facekeep.keys.keyring import OSKeyring
from facekeep.keys.keystore import Anchor, Keystore, KeystoreSecrets
from facekeep.keys.provider import KeyFile, MasterKeySource, Passphrase

__all__ = ["Anchor", "KeyFile", "Keystore", "KeystoreSecrets", "MasterKeySource", "OSKeyring", "Passphrase"]
