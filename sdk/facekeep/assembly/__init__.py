"""From the names of model packs to models that run: which packs, which build, loaded and wired to the stages.

A build is chosen once, by measurement, and then kept by the device: templates of another build belong to another contract.
"""

from facekeep.assembly.choice import ModelChoice
from facekeep.assembly.choosing import PREFERRED_DETECTORS, PREFERRED_EMBEDDERS, choose_models
from facekeep.assembly.loading import Inference, LoadedModels, load_models
from facekeep.assembly.workshop import MODELS_SETTING, ModelWorkshop

__all__ = [
    "MODELS_SETTING",
    "PREFERRED_DETECTORS",
    "PREFERRED_EMBEDDERS",
    "Inference",
    "LoadedModels",
    "ModelChoice",
    "ModelWorkshop",
    "choose_models",
    "load_models",
]
