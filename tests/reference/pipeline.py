"""The whole way from a picture to an embedding with OpenCV and bare ONNX Runtime: FaceDetectorYN, warpAffine, resize, run.

Nothing here imports the stages of the SDK.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

# insightface, python-package/insightface/utils/face_align.py, arcface_dst.
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64)


def umeyama(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (2, 3) similarity of Umeyama 1991 by singular value decomposition, as the paper writes it."""
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - to_mean).T @ (source - from_mean) / len(source)
    left, singular, right = np.linalg.svd(covariance)
    sign = np.ones(2)
    if np.linalg.det(covariance) < 0:
        sign[-1] = -1
    rotation = left @ np.diag(sign) @ right
    scale = (singular * sign).sum() / source.var(axis=0).sum()
    return np.hstack((scale * rotation, (to_mean - scale * rotation @ from_mean)[:, None]))


class OpenCVPipeline:
    """Detector and embedder from files; pictures are BGR, as OpenCV reads them."""

    def __init__(self, detector: Path, embedder: Path, *, size: int = 128, confidence: float = 0.8) -> None:
        cv2.setNumThreads(1)
        self._detector = cv2.FaceDetectorYN.create(str(detector), "", (320, 320), confidence, 0.3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._embedder = onnxruntime.InferenceSession(str(embedder), options)
        self._input = self._embedder.get_inputs()[0].name
        self._size = size

    def faces(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, 15) rows: box, ten landmark coordinates, score; most confident first."""
        self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
        found = self._detector.detect(bgr)[1]
        return np.empty((0, 15), np.float32) if found is None else found[np.argsort(-found[:, 14], kind="stable")]

    def align(self, bgr: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
        matrix = umeyama(landmarks.reshape(5, 2).astype(np.float64), ARCFACE)
        return np.asarray(cv2.warpAffine(bgr, matrix, (112, 112), flags=cv2.INTER_LINEAR), np.uint8)

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        resized = cv2.resize(crop, (self._size, self._size), interpolation=cv2.INTER_LINEAR)
        tensor = np.ascontiguousarray(resized.transpose(2, 0, 1)[None].astype(np.float32))
        vector = self._embedder.run(None, {self._input: tensor})[0].ravel()
        return np.asarray(vector / np.linalg.norm(vector), np.float32)
