"""The recipe of the federated figures: what a fleet of degraded cameras gains, and what anybody can learn of it.

    python -m facekeep_models.training.federated --data DIR --work DIR
    python -m facekeep_models.training.federated.leakage --work DIR

Needs the extra `build` (PyTorch, onnx). Outside the package of devices and servers: here everything lies on one machine, which is
what a federation avoids. docs/models/federated.md has the figures and what was learnt.
"""
