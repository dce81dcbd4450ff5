"""From trained weights to the builds that ship: ONNX and LiteRT, float and 8 bits, checked, measured, described.

`python -m facekeep_models.training.export embedder ...` and `... detector ...`. Needs the extra `build`; without `litert-torch`
the ONNX builds alone can be asked for. Steps:
    1 network: read the weights, fold normalisation layers into convolutions, round what is stored
    2 builds: ONNX fp32, ONNX int8, LiteRT fp32, LiteRT int8; calibration sees pictures of training people only
    3 check: every build answers as the trained network does, on the device's own path, or nothing is written
    4 write: whole files or none
    5 manifest: sizes, hashes, where it all comes from
    6 operating points of each build, on held-out people only, as a device would embed them
"""
