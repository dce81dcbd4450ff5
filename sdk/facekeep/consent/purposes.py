"""What a consent can be for, and what each purpose means in the words of ISO/IEC TS 27560 and DPV."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Purpose(StrEnum):
    """What a consent can be for. Each is asked for and withdrawn on its own."""

    ENROLMENT = "enrolment"
    VERIFICATION = "verification"
    IDENTIFICATION = "identification"
    FEDERATED_TRAINING = "federated-training"
    CALIBRATION_STATISTICS = "calibration-statistics"
    REDACTION = "redaction"


@dataclass(frozen=True, slots=True)
class PurposeTerms:
    """What a record says of one purpose.

    Attributes:
        dpv: the nearest concept of the Data Privacy Vocabulary (https://w3id.org/dpv).
        data: kinds of biometric data that are processed for it.
        leaves_device: "never", or in which form something made of them does.
    """

    dpv: str
    data: tuple[str, ...]
    leaves_device: str


# Part of record version 2: another value for a purpose takes another version, for a record is compared with its bytes.
PURPOSE_TERMS: Final[dict[Purpose, PurposeTerms]] = {
    Purpose.ENROLMENT: PurposeTerms("dpv:IdentityAuthentication", ("face-image", "face-template"), "never"),
    Purpose.VERIFICATION: PurposeTerms("dpv:IdentityVerification", ("face-image", "face-template"), "never"),
    Purpose.IDENTIFICATION: PurposeTerms("dpv:IdentityAuthentication", ("face-image", "face-template"), "never"),
    Purpose.FEDERATED_TRAINING: PurposeTerms(
        "dpv:ImproveExistingProductsAndServices", ("face-image", "model-update"), "noised-and-masked"
    ),
    Purpose.CALIBRATION_STATISTICS: PurposeTerms(
        "dpv:ImproveExistingProductsAndServices", ("comparison-statistics",), "noised-and-masked"
    ),
    Purpose.REDACTION: PurposeTerms("dpv:Purpose", ("face-image",), "never"),
}
