"""The recipe of the second look at landmarks, the network that `facekeep.detection.refining` runs.

    python -m facekeep_models.training.landmarks --data DIR --work DIR --packs DIR

Pictures and labels are those of the detector's recipe, made anew where its folder has none. Steps:
    1 crops: faces aligned by landmarks that are off as a detector's are, disturbed as mosaics are
    2 network: learns where the landmarks of the crop really are
    3 export: facekeep_landmarks.onnx beside the curves
"""
