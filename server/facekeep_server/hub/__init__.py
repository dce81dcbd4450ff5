"""The app that devices run, signed, and the small hub that hands it to a SuperLink.

A SuperNode downloads its code from the server: whoever holds the server would run what he likes on every device. So SuperNodes are
started with --trusted-entities and refuse every app without a signature of a key that never is on the server.
"""
