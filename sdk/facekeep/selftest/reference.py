"""What the watched process will hold in memory, computed here by the same code: the bytes to search for.

The watched process never sends these values; it sends their SHA-256, which shows afterwards that the search was for the right
bytes. So no channel has to be left out of the search.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame
from facekeep.contract import InputContract
from facekeep.embedding import mean_direction
from facekeep.errors import AcquisitionError, SelftestError
from facekeep.flows.acquisition import acquire_face, find_single_face
from facekeep.flows.context import Models, Settings
from facekeep.resampling import to_tensor
from facekeep.residue.forms import Form, array_form, picture_forms, tensor_forms, vector_forms
from facekeep.selftest.pictures import Pictures, captured_now
from facekeep.selftest.scenario import digest

_ENROLLED = {"alice": ("alice-1", "alice-2"), "bob": ("bob-1",)}


@dataclass(frozen=True, slots=True)
class Reference:
    """The secrets of a run.

    Attributes:
        forms: every secret in every form.
        vectors: name -> embedding or template.
        crops: digests of the aligned crops.
        embeddings: digests of the embeddings.
        templates: digests of the templates.
        secrets: number of secrets.
    """

    forms: list[Form] = field(repr=False)
    vectors: dict[str, NDArray[np.float32]] = field(repr=False)
    crops: frozenset[str]
    embeddings: frozenset[str]
    templates: frozenset[str]
    secrets: int


def embed_picture(pixels: NDArray[np.uint8], models: Models, settings: Settings) -> NDArray[np.float32]:
    """Return the embedding of the face in a picture.

    Raises:
        AcquisitionError: where a device with these settings would refuse it.
    """
    frame = Frame(pixels, captured_now())
    return acquire_face(frame, find_single_face(frame, models, settings), models, settings).embedding.vector


def compute_reference(pictures: Pictures, models: Models, contract: InputContract, settings: Settings) -> Reference:
    """Return the secrets that a run on these pictures and models makes.

    Args:
        pictures: the marked pictures.
        models: loaded models, the same as the watched process loads.
        contract: input contract of the embedder, for the tensor that it is fed.
        settings: of the device.

    Raises:
        SelftestError: "selftest.failed" if a picture cannot be used.
    """
    forms: list[Form] = []
    crops: dict[str, NDArray[np.uint8]] = {}
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, pixels in pictures.arrays.items():
        forms += picture_forms(f"picture {name}", pixels)
        frame = Frame(pixels, captured_now())
        try:
            face = acquire_face(frame, find_single_face(frame, models, settings), models, settings)
        except AcquisitionError as refusal:
            if name == "nobody":
                continue
            raise SelftestError(
                "selftest.failed", f"Picture {name} of {pictures.origin} cannot be used: {refusal.args[0]} [{refusal.code}]"
            ) from None
        crops[name] = face.sample.pixels
        vectors[f"embedding of {name}"] = face.embedding.vector
    templates = {
        f"template of {subject}": mean_direction([vectors[f"embedding of {name}"] for name in names])
        for subject, names in _ENROLLED.items()
    }
    for name, crop in crops.items():
        forms += picture_forms(f"crop of {name}", crop)
        forms += tensor_forms(f"crop of {name}", crop)
        forms.append(array_form(f"input tensor of {name}", to_tensor(crop, contract)))
    embeddings = frozenset(digest(vector) for vector in vectors.values())
    vectors |= templates
    for name, vector in vectors.items():
        forms += vector_forms(name, vector)
    return Reference(
        forms,
        vectors,
        frozenset(digest(crop) for crop in crops.values()),
        embeddings,
        frozenset(digest(vector) for vector in templates.values()),
        len(pictures.arrays) + len(crops) + len(vectors),
    )
