"""Cameras: both take a grant, and neither opens anything without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facekeep.biometric import Frame
from facekeep.capture.sources import frame_from_array
from facekeep.clock import Clock, SystemClock
from facekeep.consent import ConsentGrant
from facekeep.errors import AcquisitionError, ConsentError


def _require_grant(grant: ConsentGrant) -> None:
    # The type says so already; a camera is where a mistake would cost most, so it is checked once more.
    if not isinstance(grant, ConsentGrant):
        raise ConsentError("consent.none", "A camera takes no picture without a consent grant.")


class StillCamera:
    """Shows given frames, one after the other and from the start again: the test double of `Camera`.

    Args:
        frames: what it shows; none means a camera that gives nothing.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = tuple(frames)
        self.captures = 0

    def capture(self, grant: ConsentGrant) -> Frame:
        """Return the next frame.

        Raises:
            AcquisitionError: "acquisition.camera" if it has none.
            ConsentError: "consent.none" without a grant.
        """
        _require_grant(grant)
        if not self._frames:
            raise AcquisitionError("acquisition.camera", "The camera gave no frame.")
        frame = self._frames[self.captures % len(self._frames)]
        self.captures += 1
        return frame


class OpenCVCamera:
    """A camera of the machine through OpenCV (extra `camera`). Opened for one capture and released after it.

    Args:
        index: number of the camera, 0 for the first.
        clock: tells the instant of capture.
        warm_up_frames: frames dropped first, while exposure and white balance settle.
    """

    def __init__(self, index: int = 0, *, clock: Clock | None = None, warm_up_frames: int = 5) -> None:
        if index < 0 or warm_up_frames < 0:
            raise ValueError("a camera has a number from 0 on")
        self._index = index
        self._clock = clock or SystemClock()
        self._warm_up_frames = warm_up_frames

    def capture(self, grant: ConsentGrant) -> Frame:
        """Return one frame.

        Raises:
            AcquisitionError: "acquisition.camera".
            ConsentError: "consent.none" without a grant; the camera stays closed.
        """
        _require_grant(grant)
        try:
            import cv2
        except ImportError:
            raise AcquisitionError("acquisition.camera", "Cameras need OpenCV. Run: pip install 'facekeep[camera]'") from None
        device: Any = None
        try:
            device = cv2.VideoCapture(self._index)
            pixels = None
            for _ in range(self._warm_up_frames + 1):
                read, pixels = device.read() if device.isOpened() else (False, None)
                if not read:
                    break
            if pixels is None:
                raise AcquisitionError(
                    "acquisition.camera",
                    f"Camera {self._index} gave no frame. Is it connected, permitted and not used by another program?",
                )
            return frame_from_array(pixels[:, :, ::-1], self._clock.now())
        except AcquisitionError:
            raise
        except Exception as error:
            raise AcquisitionError("acquisition.camera", f"Camera {self._index} failed ({type(error).__name__}).") from error
        finally:
            if device is not None:
                device.release()
