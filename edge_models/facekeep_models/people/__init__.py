"""Synthetic people: pictures of people who do not exist, any number of each, with the truth beside every picture.

    person = synthetic_person(7)
    picture = draw_person(person, 0)                                   # pixels, landmarks_px, scene
    masked = draw_person(person, 1, Variation(masked_share=1.0))
    exact = draw_person(person, 2, scene=Scene(yaw_degrees=20, light_strength=1.0, light_degrees=180))

NumPy is all it needs. The model was learnt from LFW, whose people were never asked: docs/models/people.md says for what it may be
used, `model_facts()` says so to programs.
"""

from facekeep_models.people.drawing import SyntheticPicture, draw_person
from facekeep_models.people.facts import ModelFacts, model_facts
from facekeep_models.people.model import PeopleModel, read_model, shipped_model
from facekeep_models.people.person import SyntheticPerson, screened_people, synthetic_person, unsafe_unscreened_person
from facekeep_models.people.scene import Scene, Variation

__all__ = [
    "ModelFacts",
    "PeopleModel",
    "Scene",
    "SyntheticPerson",
    "SyntheticPicture",
    "Variation",
    "draw_person",
    "model_facts",
    "read_model",
    "screened_people",
    "shipped_model",
    "synthetic_person",
    "unsafe_unscreened_person",
]
