"""One synthetic person for one demo device: consent, templates from day pictures, training samples from a poor camera.

Nobody stands behind the pictures (docs/models/people.md); consent is recorded as for somebody, because that is what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep import Device, KeyFile, Notice, Purpose
from facekeep.errors import AcquisitionError
from facekeep_models.people import Variation, draw_person, synthetic_person

EMBEDDER: Final = "facekeep-embedder/onnx-fp32"
DETECTOR: Final = "facekeep-detector/onnx-fp32"
NIGHT: Final = "night"
_NOTICE: Final = Notice("A demonstration: the person on these pictures does not exist.")
_PURPOSES: Final = frozenset({Purpose.ENROLMENT, Purpose.VERIFICATION, Purpose.FEDERATED_TRAINING})
# A camera at dusk: dark, noisy and out of focus, but with a face that a detector finds.
POOR: Final = Variation(darkness=0.55, noise=10.0, blur_px=1.2)
# Pictures beyond these numbers are what candidates are judged on.
_DAY: Final = range(3)
_SAMPLES_FROM: Final = 100
_VISITS_FROM: Final = 20
_MOST_VISITS: Final = 12


@dataclass(frozen=True, slots=True)
class Given:
    """What a device was given.

    Attributes:
        subject: its identifier there.
        enrolled: day pictures in the template.
        samples: training samples kept.
    """

    subject: str
    enrolled: int
    samples: int


def give_person(home: Path, key_file: Path, person: int, *, samples: int = 8) -> Given:
    """Enrol a synthetic person on a device that has joined its federation, and keep training samples of theirs.

    Raises:
        FacekeepError: as enrolling and collecting do.
    """
    subject = f"person-{person}"
    with Device.open(home, key=KeyFile(key_file), mode="open", detector=DETECTOR, embedder=EMBEDDER) as device:
        grant = device.consents.grant(subject, purposes=_PURPOSES, valid_for="P30D", notice=_NOTICE)
        receipt = device.enrol(subject, _day_pictures(person), grant)
        kept = device.federation.collect(
            subject, _poor_pictures(person, samples), grant, kind=NIGHT, unsafe_without_comparison=True
        )
        return Given(subject, sum(frame.admitted for frame in receipt.frames), kept.kept)


def verify_person(home: Path, key_file: Path, person: int) -> int:
    """Let a person pass by until their template has followed the model in use; return how many times that took.

    Raises:
        FacekeepError: as verifying does. The template of somebody who never matches strictly enough waits on.
    """
    with Device.open(home, key=KeyFile(key_file), mode="open") as device:
        for times in range(_MOST_VISITS):
            if device.federation.status().waiting == 0:
                return times
            picture = draw_person(synthetic_person(person), _VISITS_FROM + times).pixels
            try:
                device.verify(f"person-{person}", picture, target_fmr=1e-2)
            except AcquisitionError:
                continue
        return _MOST_VISITS


def _day_pictures(person: int) -> Sequence[NDArray[np.uint8]]:
    return [draw_person(synthetic_person(person), number).pixels for number in _DAY]


def _poor_pictures(person: int, count: int) -> Sequence[NDArray[np.uint8]]:
    return [draw_person(synthetic_person(person), _SAMPLES_FROM + number, POOR).pixels for number in range(count)]
