"""The recipe of the detector: taught by YuNet, on mosaics of pictures in which YuNet said where the faces are.

    python -m facekeep_models.training.detector --data DIR --work DIR --packs DIR      labels, trains, exports, draws the curves
    python -m facekeep_models.training.detector.calibrate --work DIR                   the confidence from which a find counts
    python -m facekeep_models.training.detector.mix --from A --and B ...               the mean of two stages
    python -m facekeep_models.training.landmarks --data DIR --work DIR --packs DIR     the second look at landmarks
    python -m facekeep_models.training.detector.publish --work DIR --confidence C      into the package, with its manifest
    python -m facekeep_models.training.detector.evaluate --data DIR --packs DIR        every figure of its card

Each can be stopped and run again. Needs PyTorch and ONNX (extra `build`), OpenCV, and matplotlib for the curves.
"""
