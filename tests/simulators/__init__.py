"""Simulators that drive the real code: seeded, in process, `--dump DIR` writes every message."""
