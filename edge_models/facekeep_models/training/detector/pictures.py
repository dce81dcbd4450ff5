"""The pictures of the recipe with the teacher's labels, and of drawn people with their truth: made once, read by every step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.capture import read_picture
from facekeep_models.people import Variation, draw_person, screened_people, synthetic_person
from facekeep_models.training.detector.teacher import FACE_COLUMNS, Teacher, box_of_landmarks

# Where a picture comes from: named people, crowds, rendered faces, drawn people, scenes without anyone.
SOURCES: Final = ("lfw", "crowd", "sfhq", "people", "empty")
# Drawn people from this index on are for evaluation and never trained on.
FIRST_HELD_OUT_PERSON: Final = 400
DRAWN_EACH: Final = 4
_DRAWN_PX: Final = 256
_WIDER: Final = Variation(yaw_degrees=18.0, pitch_degrees=11.0, masked_share=0.15, zoom=0.1, shift=0.05)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """A set of pictures.

    Attributes:
        pixels: every picture's (H, W, 3) uint8 RGB, one behind the other.
        place: (N, 3) int64: where its pixels begin, height, width.
        source: (N,) int8, place in `SOURCES`.
        held_out: (N,) bool, kept for validation; never trained on.
        faces: (M, 15) float32 left, top, right, bottom, confidence of the teacher, five landmarks (x, y); sorted by picture.
        owner: (M,) int32, the picture of each face.
    """

    pixels: NDArray[np.uint8]
    place: NDArray[np.int64]
    source: NDArray[np.int8]
    held_out: NDArray[np.bool_]
    faces: NDArray[np.float32]
    owner: NDArray[np.int32]

    def picture(self, number: int) -> NDArray[np.uint8]:
        """Return the (H, W, 3) uint8 RGB pixels of a picture."""
        start, height, width = self.place[number].tolist()
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def faces_of(self, number: int) -> NDArray[np.float32]:
        """Return the (K, 15) faces of a picture."""
        first, last = np.searchsorted(self.owner, (number, number + 1))
        return self.faces[first:last]


def prepare_pictures(
    data: Path, work: Path, packs: Path, *, limit: int, say: Callable[[str], None], drawn_each: int = DRAWN_EACH
) -> Pictures:
    """Return the pictures of `data`, from `work` where they were made before.

    Args:
        data: folder with `lfw-devtrain`, `scenes`, and where present `synthetic_sfhq`. `photos` is for evaluation: not read.
        work: folder for what is made; made for its owner only, for it holds faces.
        packs: store with yunet-s, the teacher.
        limit: pictures of each source at the most, 0 for all.
        say: progress, one line at a time.
        drawn_each: pictures of each drawn person.
    """
    marker = work / "pictures.json"
    wanted = {"limit": limit, "drawn": drawn_each, "version": 3}
    if not marker.exists() or json.loads(marker.read_text()) != wanted:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = _gathered(data, Teacher(packs), limit, drawn_each, say)
        for name in Pictures.__dataclass_fields__:
            np.save(work / f"{name}.npy", getattr(made, name))
        marker.write_text(json.dumps(wanted))
    return read_pictures(work)


def read_pictures(work: Path) -> Pictures:
    """Return the pictures that `prepare_pictures` left in `work`."""
    names = Pictures.__dataclass_fields__
    return Pictures(**{name: np.load(work / f"{name}.npy", mmap_mode="r" if name == "pixels" else None) for name in names})


def scene_files(data: Path, kind: str) -> list[Path]:
    """Return the pictures of "crowd" or "empty" scenes, in the order that decides which of them are held out."""
    return sorted((data / "scenes" / kind).glob("*.jpg"))


def held_out_scene(number: int) -> bool:
    """Return whether the scene at this place of its kind is kept for validation."""
    return number % 8 == 0


def join_pictures(rows: Iterator[tuple[str, bool, NDArray[np.uint8], NDArray[np.float32]]]) -> Pictures:
    """Return the set of (source, held out, pixels, (K, 15) faces), in their order."""
    kept, place, source, held, faces, owner, start = [], [], [], [], [], [], 0
    for number, (name, held_out, pixels, found) in enumerate(rows):
        kept.append(pixels.reshape(-1))
        place.append((start, *pixels.shape[:2]))
        source.append(SOURCES.index(name))
        held.append(held_out)
        faces.append(found.reshape(-1, FACE_COLUMNS))
        owner.extend([number] * len(found))
        start += pixels.size
    return Pictures(
        np.concatenate(kept),
        np.array(place, np.int64),
        np.array(source, np.int8),
        np.array(held, bool),
        np.concatenate(faces).astype(np.float32),
        np.array(owner, np.int32),
    )


def _gathered(data: Path, teacher: Teacher, limit: int, drawn_each: int, say: Callable[[str], None]) -> Pictures:
    def rows() -> Iterator[tuple[str, bool, NDArray[np.uint8], NDArray[np.float32]]]:
        for name, paths in _files(data).items():
            chosen = paths[: limit or None]
            people = {each: number for number, each in enumerate(sorted({path.parent.name for path in chosen}))}
            for number, path in enumerate(chosen):
                if number % 500 == 0:
                    say(f"labels: {name} {number} of {len(chosen)}")
                # People, not pictures, are held out where pictures have names.
                held_out = people[path.parent.name] % 20 == 0 if name == "lfw" else held_out_scene(number)
                pixels = read_picture(path)
                yield name, held_out and name != "sfhq", pixels, teacher.label(pixels, empty=name == "empty")
        indices = range(min(FIRST_HELD_OUT_PERSON, screened_people()))[: limit or None]
        for index in indices:
            if index % 50 == 0:
                say(f"drawing: {index} of {len(indices)} people")
            for number in range(drawn_each):
                drawn = draw_person(synthetic_person(index), number, _WIDER if number % 2 else None, side_px=_DRAWN_PX)
                yield "people", False, drawn.pixels, box_of_landmarks(drawn.landmarks_px)[None]

    return join_pictures(rows())


def _files(data: Path) -> dict[str, list[Path]]:
    return {
        "lfw": sorted((data / "lfw-devtrain" / "images").rglob("*.jpg")),
        "crowd": scene_files(data, "crowd"),
        "sfhq": sorted((data / "synthetic_sfhq").glob("*.jpg")),
        "empty": scene_files(data, "empty"),
    }
