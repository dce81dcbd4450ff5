"""Aligned crops of people, real and drawn: made once, kept for their owner only, read by every row of figures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.ports import Detector
from facekeep_models.evaluation.embedding import central_face
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.pictures import pictures_of_directory, some_of
from facekeep_models.training.export.pictures import drawn_crop

IMAGES: Final = Path("lfw-devtrain", "images")
# Of one person at the most, so that those with hundreds do not speak for everyone.
MOST_EACH: Final = 10
DRAWN_EACH: Final = 2
# Crops are kept as a camera would send them: small enough to carry to another machine.
_QUALITY: Final = 92
_VERSION: Final = 2

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Album:
    """Crops of people.

    Attributes:
        content: (B,) uint8, JPEG files one after the other.
        ends: (N,) int64, where each of them ends.
        person: (N,) int32, whose picture it is, a place in `names`.
        names: the people; names of the same words in another order are one.
    """

    content: NDArray[np.uint8]
    ends: NDArray[np.int64]
    person: NDArray[np.int32]
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Album({len(self.ends)} pictures of {len(self.names)} people)"

    def crops(self, places: NDArray[np.integer]) -> Image:
        """Return (len(places), 112, 112, 3) uint8 RGB."""
        from PIL import Image as Pillow

        starts = np.concatenate([[0], self.ends[:-1]])
        taken = []
        for place in places.tolist():
            with Pillow.open(io.BytesIO(self.content[starts[place] : self.ends[place]].tobytes())) as opened:
                taken.append(np.asarray(opened.convert("RGB"), np.uint8))
        return np.stack(taken)


def prepare_albums(
    data: Path, work: Path, detector: Callable[[], Detector], *, people: int, drawn: int, say: Callable[[str], None]
) -> tuple[Album, Album, tuple[str, ...]]:
    """Return the crops of the people of `data` and of people who do not exist, and the names of all folders of `data`.

    From `work` where they were made before: then neither `data` nor the detector is used.

    Args:
        data: folder with `lfw-devtrain`.
        work: folder for what is made; made for its owner only, for it holds faces.
        detector: loads what finds faces.
        people: of `data`, 0 for all.
        drawn: synthetic people.
        say: progress, one line at a time.

    Raises:
        EvaluationError: "evaluation.no_pictures", "evaluation.io".
    """
    wanted = {"version": _VERSION, "people": people, "drawn": drawn}
    marker = work / "albums.json"
    if not marker.exists() or json.loads(marker.read_text()) != wanted:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Who was held out of the training of the embedder is a draw from all names, those without a face included.
        (work / "folders.json").write_text(json.dumps(sorted(path.name for path in (data / IMAGES).iterdir() if path.is_dir())))
        _keep(work / "real.npz", _found(data, detector(), people, say))
        _keep(work / "drawn.npz", _drawn(drawn, say))
        marker.write_text(json.dumps(wanted))
    return _kept(work / "real.npz"), _kept(work / "drawn.npz"), tuple(json.loads((work / "folders.json").read_text()))


def _found(data: Path, detector: Detector, people: int, say: Callable[[str], None]) -> Iterator[tuple[Image, str]]:
    chosen = some_of(pictures_of_directory(data / IMAGES), most_of_each=MOST_EACH, people=people or None)
    named: dict[int, str] = {}
    for number, picture in enumerate(chosen):
        if number % 1000 == 0:
            say(f"crops: {number} of {len(chosen)}")
        # A person of two spellings goes by the first of them.
        name = named.setdefault(picture.person, picture.name.split("/")[0])
        frame = picture.load()
        faces = detector.detect(frame)
        if faces:
            yield align(frame, central_face(faces, frame)), name


def _drawn(people: int, say: Callable[[str], None]) -> Iterator[tuple[Image, str]]:
    for index in range(people):
        if index % 100 == 0:
            say(f"synthetic people: {index} of {people}")
        for number in range(DRAWN_EACH):
            yield drawn_crop(index, number), f"{index:04d}"


def _keep(path: Path, crops: Iterator[tuple[Image, str]]) -> None:
    from PIL import Image as Pillow

    files, names = [], []
    for pixels, name in crops:
        written = io.BytesIO()
        Pillow.fromarray(pixels).save(written, "JPEG", quality=_QUALITY)
        files.append(written.getvalue())
        names.append(name)
    if not files:
        raise EvaluationError("evaluation.no_pictures", "In no picture was a face found.")
    listed, person = np.unique(np.array(names), return_inverse=True)
    ends = np.cumsum([len(each) for each in files]).astype(np.int64)
    content = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, content=content, ends=ends, person=person.astype(np.int32), names=listed)


def _kept(path: Path) -> Album:
    with np.load(path) as held:
        return Album(held["content"], held["ends"], held["person"], tuple(str(name) for name in held["names"]))
