"""From completed rounds to a release: server optimiser, gate, signatures from elsewhere, canary devices, the whole fleet."""
