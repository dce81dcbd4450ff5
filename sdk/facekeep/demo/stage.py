"""What every part of a demo works with: the device, the meter, and the snapshots of what the device saw."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from facekeep.alignment import align
from facekeep.biometric import Detection, Frame, QualityReport
from facekeep.demo.album import Picture
from facekeep.demo.meter import Meter, Shutter
from facekeep.demo.record import Snapshot
from facekeep.demo.residue import Needles
from facekeep.device import Device
from facekeep.errors import AcquisitionError
from facekeep.flows.context import Settings
from facekeep.quality import assess

_THUMBNAIL_SIDE_PX: Final = 640
_JPEG_QUALITY: Final = 82


@dataclass(slots=True)
class Stage:
    """The device and everything around it.

    Attributes:
        device: the device; replaced when it is closed and opened again.
        settings: its settings.
        meter: counts its calls.
        needles: pieces of what must not be on the disk.
        tick: says that one more part is done, and what comes next.
        snapshots: pictures the device has seen, in order.
    """

    device: Device
    settings: Settings
    meter: Meter
    needles: Needles
    tick: Callable[[str], None]
    snapshots: list[Snapshot] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)

    def shutter(self, picture: Picture) -> Shutter:
        """Return a camera with `picture` in front of it."""
        return Shutter(picture, self.meter)

    def snapshot(self, shutter: Shutter) -> int:
        """Return the number of the snapshot of what is in front of a camera, taking it after the device saw it."""
        picture = shutter.picture
        number = self._numbers.get(id(picture))
        if number is None:
            number = self._numbers[id(picture)] = len(self.snapshots)
            self.snapshots.append(self._take(number, shutter))
        return number

    def _take(self, number: int, shutter: Shutter) -> Snapshot:
        picture, frame = shutter.picture, shutter.frame
        if frame is None:
            return Snapshot(number, picture.name, picture.person, picture.faces, None, b"", (), None)
        self.needles.add("frame", frame.pixels)
        detections = self.meter.detections_in(frame) or ()
        return Snapshot(
            number,
            picture.name,
            picture.person,
            picture.faces,
            (frame.width, frame.height),
            _thumbnail(frame),
            detections,
            self._quality(frame, detections),
        )

    def _quality(self, frame: Frame, detections: tuple[Detection, ...]) -> QualityReport | None:
        if len(detections) != 1:
            return None
        try:
            # The same pure functions on the same values as in the flow: the device does not hand out the report of a probe.
            return assess(frame, detections[0], align(frame, detections[0]), self.settings.quality)
        except AcquisitionError:
            return None


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started


def require_pillow() -> None:
    """Return if pictures can be drawn.

    Raises:
        AcquisitionError: "acquisition.no_decoder" with the command that helps.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise AcquisitionError(
            "acquisition.no_decoder", "The demo draws pictures with Pillow. Run: pip install 'facekeep[demo]'"
        ) from None


def _thumbnail(frame: Frame) -> bytes:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(frame.pixels))
    picture.thumbnail((_THUMBNAIL_SIDE_PX, _THUMBNAIL_SIDE_PX), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return stream.getvalue()
