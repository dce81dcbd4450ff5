"""What varies from one picture of a person to the next: a `Variation` says how much, a `Scene` says what it came to.

A scene is also the truth that goes with a picture. Whoever wants one exact picture writes the scene by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

# Keeps the stream that chooses scenes apart from those of people and of pixels.
_SCENE_STREAM: Final = 0x5CE2E
# Normal draws stop here: beyond lies what a linear model was never shown.
_REACH: Final = 2.0
_MASK_COLOURS: Final = ((168, 200, 222), (226, 229, 230), (46, 48, 54), (150, 190, 178))


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture's circumstances.

    Attributes:
        appearance: how far face and hair stray from the person's usual look, as a share of how far real people's do.
        surroundings: how far clothes and background do.
        yaw_degrees: head turned, positive towards the right of the picture.
        pitch_degrees: head raised.
        roll_degrees: picture turned, positive clockwise.
        smile: width of the mouth in standard deviations of what one person shows; 0 is the usual look.
        mouth_open: distance of the lips, in the same unit.
        light_degrees: where the stronger light comes from around the face: 0 right of the picture, 90 above, 180 left.
        light_strength: 0 even light; 1 one side of the nose is twice as bright as the other.
        light_rgb: colour of the light as a gain for each channel.
        zoom: size of the head, 1 is a head and shoulders.
        shift: how far the head is from its place, (right, down) as shares of the picture's side.
        blur_px: standard deviation of the blur, in pixels of the picture.
        noise: standard deviation of the sensor's noise in grey levels.
        darkness: 0 bright day to 1 almost night; noise grows as light goes.
        masked: whether mouth and nose are covered.
        mask_rgb: colour of the mask.
        jpeg_quality: 1 to 100, or None for no compression.
    """

    appearance: float = 0.0
    surroundings: float = 0.0
    yaw_degrees: float = 0.0
    pitch_degrees: float = 0.0
    roll_degrees: float = 0.0
    smile: float = 0.0
    mouth_open: float = 0.0
    light_degrees: float = 90.0
    light_strength: float = 0.0
    light_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    blur_px: float = 0.0
    noise: float = 0.0
    darkness: float = 0.0
    masked: bool = False
    mask_rgb: tuple[int, int, int] = _MASK_COLOURS[0]
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        _require(self, "appearance", 0.0, 1.5)
        _require(self, "surroundings", 0.0, 1.5)
        for name, limit in (
            ("yaw_degrees", 40.0),
            ("pitch_degrees", 30.0),
            ("roll_degrees", 45.0),
            ("smile", 3.0),
            ("mouth_open", 3.0),
        ):
            _require(self, name, -limit, limit)
        _require(self, "light_degrees", -360.0, 360.0)
        _require(self, "light_strength", 0.0, 2.0)
        _require(self, "zoom", 0.5, 1.6)
        _require(self, "blur_px", 0.0, 8.0)
        _require(self, "noise", 0.0, 60.0)
        _require(self, "darkness", 0.0, 1.0)
        if not all(0.2 <= gain <= 3.0 for gain in self.light_rgb) or not all(-0.3 <= part <= 0.3 for part in self.shift):
            raise ValueError("light_rgb has gains from 0.2 to 3, shift has shares from -0.3 to 0.3")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError("jpeg_quality is 1 to 100, or None")


@dataclass(frozen=True, slots=True)
class Variation:
    """How much pictures of one person differ. Each number is a standard deviation or a largest value; 0 switches it off.

    Attributes:
        appearance: `Scene.appearance` of every picture.
        surroundings: `Scene.surroundings` of every picture.
        yaw_degrees: standard deviation; so are pitch, roll, smile, mouth_open, zoom and shift.
        pitch_degrees: as said.
        roll_degrees: as said.
        smile: as said.
        mouth_open: as said.
        light_strength: largest.
        light_colour: standard deviation of each channel's gain.
        zoom: as said.
        shift: as said.
        blur_px: largest.
        noise: largest.
        darkness: largest.
        masked_share: share of pictures with a mask, 0 to 1.
        jpeg_quality: lowest and highest, or None.
    """

    appearance: float = 0.45
    surroundings: float = 1.0
    yaw_degrees: float = 10.0
    pitch_degrees: float = 7.0
    roll_degrees: float = 5.0
    smile: float = 0.8
    mouth_open: float = 0.6
    light_strength: float = 0.8
    light_colour: float = 0.05
    zoom: float = 0.06
    shift: float = 0.03
    blur_px: float = 1.2
    noise: float = 6.0
    darkness: float = 0.12
    masked_share: float = 0.0
    jpeg_quality: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "jpeg_quality" and not 0.0 <= value < 100.0:
                raise ValueError(f"{field.name} is not negative; found {value}")
        if (
            self.masked_share > 1.0
            or self.darkness > 1.0
            or self.light_strength > 2.0
            or max(self.appearance, self.surroundings) > 1.5
        ):
            raise ValueError("masked_share and darkness end at 1, light_strength at 2, appearance and surroundings at 1.5")

    @classmethod
    def none(cls) -> Self:
        """Return a variation in which every picture of a person is the same."""
        return cls(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def scene(self, person: int, number: int) -> Scene:
        """Return the scene of picture `number` of the person of this index: always the same one.

        All values are drawn whether they are used or not, so that switching one off leaves the others as they were.
        """
        random = np.random.default_rng([_SCENE_STREAM, person, number])
        yaw, pitch, roll, smile, mouth, zoom, right, down, red, green, blue = np.clip(
            random.standard_normal(11), -_REACH, _REACH
        ).tolist()
        light, around, blur, noise, darkness, masked, quality = random.random(7).tolist()
        colour = int(random.integers(len(_MASK_COLOURS)))
        lowest, highest = self.jpeg_quality or (1, 1)

        def within(value: float, limit: float) -> float:
            return max(-limit, min(limit, value))

        return Scene(
            appearance=self.appearance,
            surroundings=self.surroundings,
            yaw_degrees=within(yaw * self.yaw_degrees, 40.0),
            pitch_degrees=within(pitch * self.pitch_degrees, 30.0),
            roll_degrees=within(roll * self.roll_degrees, 45.0),
            smile=within(smile * self.smile, 3.0),
            mouth_open=within(mouth * self.mouth_open, 3.0),
            light_degrees=360.0 * around,
            light_strength=light * self.light_strength,
            light_rgb=(
                max(0.2, 1.0 + red * self.light_colour),
                max(0.2, 1.0 + green * self.light_colour),
                max(0.2, 1.0 + blue * self.light_colour),
            ),
            zoom=max(0.5, min(1.6, 1.0 + zoom * self.zoom)),
            shift=(within(right * self.shift, 0.3), within(down * self.shift, 0.3)),
            blur_px=min(8.0, blur * self.blur_px),
            noise=min(60.0, noise * self.noise),
            darkness=darkness * self.darkness,
            masked=masked < self.masked_share,
            mask_rgb=_MASK_COLOURS[colour],
            jpeg_quality=None if self.jpeg_quality is None else lowest + int(quality * (highest - lowest + 1)),
        )


def _require(scene: Scene, name: str, low: float, high: float) -> None:
    # A NaN compares false, so it lands here as well.
    if not low <= getattr(scene, name) <= high:
        raise ValueError(f"{name} is from {low:g} to {high:g}; found {getattr(scene, name)}")
