"""Evaluation in the manner of ISO/IEC 19795-1: docs/models/evaluation.md. Nothing here runs on a device.

Pure: `comparisons` `rates` `intervals` `bootstrap` `accuracy` `measuring` `pairing` `report`. With files and models: `pictures`
`embedding` `plotting` `evaluate` (one pack on one set of pictures) and `operating_points` (thresholds into a manifest).
"""
