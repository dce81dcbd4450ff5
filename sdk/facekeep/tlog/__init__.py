"""Transparency logs in the formats of C2SP: keys, notes, cosignatures, policies, tiles, proofs and the witness. Pure: no IO."""

from facekeep.tlog.cosignature import Cosignature, cosign
from facekeep.tlog.keys import NoteKey, NoteKind
from facekeep.tlog.notes import SignedNote
from facekeep.tlog.policy import TrustPolicy, VerifiedCheckpoint
from facekeep.tlog.proof import LogProof, verify_proof
from facekeep.tlog.proofs import (
    HashReader,
    make_consistency,
    make_inclusion,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from facekeep.tlog.tiles import Tile, bundle_path, pack_bundle, parse_tile_path, tiles_of, unpack_bundle
from facekeep.tlog.tree import TileHashes, TileTree

__all__ = [
    "Cosignature",
    "HashReader",
    "LogProof",
    "NoteKey",
    "NoteKind",
    "SignedNote",
    "Tile",
    "TileHashes",
    "TileTree",
    "TrustPolicy",
    "VerifiedCheckpoint",
    "bundle_path",
    "cosign",
    "make_consistency",
    "make_inclusion",
    "pack_bundle",
    "parse_tile_path",
    "tiles_of",
    "tree_root",
    "unpack_bundle",
    "verify_consistency",
    "verify_inclusion",
    "verify_proof",
]
