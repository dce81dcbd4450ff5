"""Model packs: what a model says of itself, which files it has, and whether it may be used."""

from facekeep.packs.files import Progress
from facekeep.packs.manifest import Build, Licence, Manifest, OutputContract, PackFile, Source, TrainingData
from facekeep.packs.parsing import manifest_to_bytes, parse_manifest
from facekeep.packs.policy import LoadPolicy, choose_build
from facekeep.packs.store import FileCheck, PackStore, fix_command, split_name

__all__ = [
    "Build",
    "FileCheck",
    "Licence",
    "LoadPolicy",
    "Manifest",
    "OutputContract",
    "PackFile",
    "PackStore",
    "Progress",
    "Source",
    "TrainingData",
    "choose_build",
    "fix_command",
    "manifest_to_bytes",
    "parse_manifest",
    "split_name",
]
