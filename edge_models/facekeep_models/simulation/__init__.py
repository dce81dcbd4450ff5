"""Drawn people: nobody's face, for tests, the selftest and the offline demo.

A drawn person is a cartoon with five coloured dots where the landmarks are and a field of colours in place of features. The
two models beside it find and tell apart exactly these figures and nothing else: no real face.
"""

from facekeep_models.simulation.people import DrawnFrame, DrawnPerson, draw_frame

__all__ = ["DrawnFrame", "DrawnPerson", "draw_frame"]
