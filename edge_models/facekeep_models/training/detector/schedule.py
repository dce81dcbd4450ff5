"""How long a stage of the recipe takes, how fast it goes, and what it asks for."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from facekeep_models.training.detector.mosaic import LEAST_RECTANGLE


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: batches in all.
        sizes: (side in pixels, pictures a batch); each step takes one of them by chance.
        matrix_rate: highest rate of Muon; a warm-up, then a cosine down to a hundredth.
        other_rate: the same of Adam, for what is no matrix.
        share: of both rates that is reached; less than 1 for a further stage.
        warm_up: steps of it.
        decay: weight decay.
        landmark_weight: of the landmarks in the loss.
        together: share of that asked of the mean over the cells of a face, as the decoder takes it; see `detection_loss`.
        drawn_share: of the rectangles of mosaics, filled with drawn people.
        least_rectangle: least size of those rectangles, as a share of the side.
        frozen_norms: batch norms keep their statistics and normalise with them, as in use; for a stage that begins with an
            exported file, whose norms are folded (`restore`).
        keep_weight: of keeping to presence and quality of another network, for a stage that has one (`train`).
        half: features in bfloat16: twice as fast where the processor has it, ten times as slow where it does not.
        averaging: decay of the moving average of weights a step; the average is what is kept.
        seed: of weights, mosaics and their disturbance.
        check_steps: figures on held-out pictures, and a point of the curves, every so many steps.
        check_pictures: how many of them.
        save_seconds: a checkpoint at least this often.
    """

    steps: int = 8000
    sizes: tuple[tuple[int, int], ...] = ((256, 24), (320, 16), (448, 8))
    matrix_rate: float = 0.05
    other_rate: float = 4e-3
    share: float = 1.0
    warm_up: int = 300
    decay: float = 0.01
    landmark_weight: float = 8.0
    together: float = 0.0
    drawn_share: float = 0.17
    least_rectangle: float = LEAST_RECTANGLE
    frozen_norms: bool = False
    keep_weight: float = 4.0
    half: bool = True
    averaging: float = 0.9985
    seed: int = 1
    check_steps: int = 500
    check_pictures: int = 600
    save_seconds: float = 300.0

    def plain(self) -> dict[str, object]:
        """Return all of it as a checkpoint keeps it."""
        return asdict(self) | {"sizes": [list(each) for each in self.sizes]}

    def share_at(self, step: int) -> float:
        """Return the share of the usual rates at a step."""
        if step < self.warm_up:
            return self.share * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.share * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
