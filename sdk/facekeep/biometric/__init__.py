"""Values that stay on the device: frames, samples, features, embeddings, templates, scores, decisions.

Every type is frozen and validated at construction: a value that exists is valid. Array types copy their input, are
read-only, compare by identity, and have a repr that shows no number of the array. Words follow ISO/IEC 2382-37.
"""

from facekeep.biometric.decision import Candidate, ComparisonScore, Decision, Identification, OperatingPoint
from facekeep.biometric.face import Detection, HeadPose, PADOutcome, PADReport, QualityReport
from facekeep.biometric.frame import Frame
from facekeep.biometric.sample import FaceSample
from facekeep.biometric.template import Embedding, Template
from facekeep.biometric.training import Features, TrainingSample

__all__ = [
    "Candidate",
    "ComparisonScore",
    "Decision",
    "Detection",
    "Embedding",
    "FaceSample",
    "Features",
    "Frame",
    "HeadPose",
    "Identification",
    "OperatingPoint",
    "PADOutcome",
    "PADReport",
    "QualityReport",
    "Template",
    "TrainingSample",
]
