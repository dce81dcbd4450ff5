"""The recipe of the embedder: distilled from a larger one into its own space, so that their templates can be compared.

`python -m facekeep_models.training.embedder --data DIR --work DIR --packs DIR`: prepares aligned crops and the teacher's answers
once, then trains, resumably. Needs PyTorch (extra `build`); uses a GPU where there is one.
"""
