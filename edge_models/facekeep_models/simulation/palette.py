"""What the drawing and the models that read it agree on: marker colours, the face template, the field of colours."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Colours of the five landmarks in their order: image-left eye, image-right eye, nose tip, image-left and image-right corner
# of the mouth. Corners of the RGB cube; everything else that is drawn keeps to its muted middle.
MARKERS_RGB: Final[NDArray[np.float64]] = np.array(
    [[0, 255, 0], [0, 0, 255], [255, 0, 255], [255, 255, 0], [0, 255, 255]], dtype=np.float64
)
# Beyond this distance in RGB a pixel says nothing of a marker. A marker dimmed to three quarters is 90 away from its
# colour; a test keeps every drawn surface further off than the reach.
MARKER_REACH: Final = 130.0
MARKER_RADIUS: Final = 4.5

# The ArcFace 112 template (insightface, face_align.py), in pixels of the aligned crop: the frame of reference of a drawing.
TEMPLATE_PX: Final[NDArray[np.float64]] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], dtype=np.float64
)
CROP_PX: Final = 112

# The field: products of cosines over the crop, this many along each axis, for each of two axes of colour.
FIELD_ORDER: Final = 6
FIELD_REACH: Final = 45.0
# Two directions in RGB at right angles to each other and to brightness (ITU-R BT.601): people differ in colour, not in light and
# shade, so that shading can look like a face to whatever judges pictures.
CHROMA_RGB: Final[NDArray[np.float64]] = np.array([[0.891, -0.4538, 0.0], [0.0773, 0.1517, -0.9854]], dtype=np.float64)

# Shading that every drawn face has: (x, y, half width, half height, brightness added), soft spots in crop pixels.
SHADING: Final = (
    (56.0, 33.0, 20.0, 7.0, 22.0),
    (56.0, 57.0, 4.0, 8.0, 26.0),
    (38.0, 48.0, 10.0, 6.5, -72.0),
    (74.0, 48.0, 10.0, 6.5, -72.0),
    (34.0, 69.0, 10.0, 8.0, 26.0),
    (78.0, 69.0, 10.0, 8.0, 26.0),
    (56.0, 75.0, 9.0, 4.5, -40.0),
    (56.0, 91.0, 15.0, 5.5, -62.0),
    (56.0, 104.0, 12.0, 5.0, 24.0),
)
SKIN_GREY: Final = 138.0


def cosines(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (FIELD_ORDER, ...) cosines of the field at positions along one axis of the crop, in crop pixels."""
    orders = np.arange(FIELD_ORDER, dtype=np.float64).reshape(-1, *([1] * positions.ndim))
    result: NDArray[np.float64] = np.cos(np.pi * orders * positions / CROP_PX)
    return result
