"""Facekeep."""
