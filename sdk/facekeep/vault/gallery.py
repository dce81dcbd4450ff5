"""Opening many templates at once, into one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from numpy.typing import NDArray

from facekeep.keys import KeystoreSecrets
from facekeep.sealing import (
    HEADER_BYTES,
    KEY_BYTES,
    OVERHEAD_BYTES,
    PREFIX_BYTES,
    DataKeyContext,
    envelope_header,
    require_header,
    stays_sealed,
    template_data_prefix,
    template_data_suffix,
)
from facekeep.vault.head import VaultHead
from facekeep.vault.store import Row, Store, damaged, integer
from facekeep.vault.subjects import require_wrap_key

DTYPE = "float32"
_UNIT_TOLERANCE = 1e-3
_LARGEST_DIMENSION = 1 << 16
_TAG_BYTES, _AFTER_TAG = 32, 8
_QUERY = (
    "SELECT t.subject_slot, t.purpose, t.consent_id, t.reference_id, t.dtype, t.dimension, t.enrolled_at_us, t.envelope, "
    "s.index_tag, s.epoch, s.wrapped_key "
    "FROM templates AS t CROSS JOIN subjects AS s ON s.slot = t.subject_slot WHERE t.contract_id = ?"
)


@dataclass(frozen=True, slots=True, eq=False)
class GalleryRows:
    """Opened templates of one contract. The arrays are the holder's own: wipe them when they have served.

    Attributes:
        vectors: (N, D) float32, a unit vector a row; (0, 0) when there is none.
        slots: (N,) int64, the slot of the subject of each row.
        revision: revision of the vault they were read at. A slot names a subject at this revision only: the slots of the
            erased are used again.
    """

    vectors: NDArray[np.float32] = field(repr=False)
    slots: NDArray[np.int64] = field(repr=False)
    revision: int

    def __repr__(self) -> str:
        return f"GalleryRows(templates={len(self.slots)})"


def open_gallery(
    store: Store, secrets: KeystoreSecrets, head: VaultHead, contract_id: str, wanted: Mapping[int, int]
) -> GalleryRows:
    """Return the templates of a contract.

    Two AES-GCM-SIV decryptions a template; everything else here is kept below their cost. Rows are read in small batches that
    stay in the processor's cache.

    Args:
        store: where to read.
        secrets: the keys.
        head: the vault's head at this moment.
        contract_id: which templates.
        wanted: slot of a subject -> how many templates of the contract it has.

    Raises:
        VaultError: "vault.sealed" or "vault.corrupt" if a single one does not open: a gallery is whole or refused.
    """
    count = sum(wanted.values())
    contract = contract_id.encode("ascii")
    if not count:
        return GalleryRows(np.empty((0, 0), np.float32), np.empty(0, np.int64), head.revision)
    dimension = integer(store.rows("SELECT dimension FROM templates WHERE contract_id = ? LIMIT 1", contract)[0][0])
    if not 0 < dimension <= _LARGEST_DIMENSION:
        raise damaged()
    opener = _Opener(secrets, head.epoch, contract, dimension)
    vectors, slots = np.empty((count, dimension), "<f4"), np.empty(count, np.int64)
    try:
        filled = 0
        for rows in store.batches(_QUERY, contract):
            chosen = [row for row in rows if row[0] in wanted]
            if filled + len(chosen) > count:
                raise damaged()
            for row in chosen:
                slots[filled] = row[0]
                filled += 1
            opener.open_rows(chosen, vectors[filled - len(chosen) : filled])
        squares = np.einsum("ij,ij->i", vectors, vectors)
        # A NaN compares false, so it lands here as well.
        if filled != count or not bool(np.all(np.abs(squares - 1.0) <= 2 * _UNIT_TOLERANCE)):
            raise damaged("The templates are not those that were stored")
    except BaseException:
        vectors.fill(0)
        raise
    return GalleryRows(vectors, slots, head.revision)


class _Opener:
    """Opens rows of `_QUERY` with as little work between the decryptions as can be."""

    def __init__(self, secrets: KeystoreSecrets, epoch: int, contract: bytes, dimension: int) -> None:
        self._epoch, self._contract, self._dimension = epoch, contract, dimension
        self._wrap = AESGCMSIV(require_wrap_key(secrets, epoch))
        self._wrap_header, self._header = envelope_header(epoch), envelope_header(0)
        # The same bytes as DataKeyContext's, cut around the tag, which alone differs between rows.
        whole = DataKeyContext(secrets.vault_id, bytes(_TAG_BYTES), epoch).associated_data()
        self._before, self._after = self._wrap_header + whole[: -_AFTER_TAG - _TAG_BYTES], whole[-_AFTER_TAG:]
        self._prefixes: dict[tuple[bytes, bytes], bytes] = {}
        self._slot = -1
        self._subject: tuple[AESGCMSIV, bytes]

    def open_rows(self, rows: list[Row], vectors: NDArray[np.float32]) -> None:
        """Open every row into the row of `vectors` with its number."""
        size = 4 * self._dimension
        memory = vectors.data.cast("B")
        header, dimension, prefixes, offset = self._header, self._dimension, self._prefixes, 0
        try:
            for slot, purpose, consent_id, reference_id, dtype, found, enrolled_at_us, envelope, tag, epoch, wrapped in rows:
                if slot != self._slot:
                    self._open_subject(slot, tag, epoch, wrapped)
                cipher, principal = self._subject
                if envelope[:HEADER_BYTES] != header or found != dimension or len(envelope) != size + OVERHEAD_BYTES:
                    require_header(envelope, 0)
                    raise damaged("The templates of one contract differ in size")
                prefix = prefixes.get((purpose, dtype))
                if prefix is None:
                    prefix = header + template_data_prefix(self._contract, purpose, dtype, dimension)
                    prefixes[purpose, dtype] = prefix
                data = prefix + template_data_suffix(principal, consent_id, reference_id, enrolled_at_us)
                end = offset + size
                # Straight into the matrix: a copy in a bytes object could not be wiped.
                cipher.decrypt_into(envelope[HEADER_BYTES:PREFIX_BYTES], envelope[PREFIX_BYTES:], data, memory[offset:end])
                offset = end
        except InvalidTag:
            raise stays_sealed() from None
        except (TypeError, AttributeError):
            # A column of another type than was written.
            raise damaged() from None

    def _open_subject(self, slot: int, tag: bytes, epoch: int, wrapped: bytes) -> None:
        if epoch != self._epoch or wrapped[:HEADER_BYTES] != self._wrap_header:
            raise stays_sealed()
        plain = self._wrap.decrypt(wrapped[HEADER_BYTES:PREFIX_BYTES], wrapped[PREFIX_BYTES:], self._before + tag + self._after)
        self._slot, self._subject = slot, (AESGCMSIV(plain[:KEY_BYTES]), plain[KEY_BYTES:])
