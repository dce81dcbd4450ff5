"""Local training of a federation: samples in, a flat update out; and the patch that makes a released model.

Imports no training framework and none of the values that stay: crops, features and centres come as arrays.
"""

from facekeep.training.anchors import hardest
from facekeep.training.head import embed_features, head_loss
from facekeep.training.kit import TrainingKit, describe_kit, parse_training_kit
from facekeep.training.local import LocalResult, TrainingSession, train_locally
from facekeep.training.parameters import HEAD, LEVELS, Level, ParameterTable, TrainableTensor, parse_parameter_table
from facekeep.training.patching import PATCH_SUFFIX, PatchTable, parse_patch_table, patched, read_parameters, table_for
from facekeep.training.samples import TrainingSamples
from facekeep.training.settings import TrainingSettings, parse_training_settings

__all__ = [
    "HEAD",
    "LEVELS",
    "PATCH_SUFFIX",
    "Level",
    "LocalResult",
    "ParameterTable",
    "PatchTable",
    "TrainableTensor",
    "TrainingKit",
    "TrainingSamples",
    "TrainingSession",
    "TrainingSettings",
    "describe_kit",
    "embed_features",
    "hardest",
    "head_loss",
    "parse_parameter_table",
    "parse_patch_table",
    "parse_training_kit",
    "parse_training_settings",
    "patched",
    "read_parameters",
    "table_for",
    "train_locally",
]
