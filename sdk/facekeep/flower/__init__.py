"""Rounds over Flower: what a device runs, and the envelope that both sides put a round's messages in.

The code that runs is this installed package. The app that Flower ships (a FAB) is a shim of three lines that calls it; SuperNodes
refuse any that is not signed by the federation's operator (docs/operations/federation.md).
"""
