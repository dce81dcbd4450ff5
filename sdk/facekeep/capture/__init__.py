"""Where frames come from: picture files, arrays and cameras. No temporary file, no cache, nothing kept."""

from facekeep.capture.camera import OpenCVCamera, StillCamera
from facekeep.capture.pictures import DEFAULT_MAX_PIXELS, SMALLEST_SIDE_PX, read_picture
from facekeep.capture.sources import SUFFIXES, as_frame, expand_sources, frame_from_array

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SMALLEST_SIDE_PX",
    "SUFFIXES",
    "OpenCVCamera",
    "StillCamera",
    "as_frame",
    "expand_sources",
    "frame_from_array",
    "read_picture",
]
