"""The vault: one SQLite file with subjects, sealed templates and features, training samples, consents, settings and audit trail.

Formats: docs/formats/vault.md, docs/formats/trail.md. Reasons: docs/adr/0001-vault-one-file-and-an-erasable-keystore.md.
"""

from facekeep.vault.gallery import GalleryRows
from facekeep.vault.inspection import Inspection
from facekeep.vault.rows import StoredSample
from facekeep.vault.shredding import ErasedCounts, StoredTemplate
from facekeep.vault.sqlite import SQLiteVault
from facekeep.vault.subjects import SubjectHandle
from facekeep.vault.transaction import VaultTransaction

__all__ = [
    "ErasedCounts",
    "GalleryRows",
    "Inspection",
    "SQLiteVault",
    "StoredSample",
    "StoredTemplate",
    "SubjectHandle",
    "VaultTransaction",
]
