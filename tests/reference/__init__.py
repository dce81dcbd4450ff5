"""Slow, obvious or foreign ways to the same results: what the fast paths are compared with. Never shipped."""
