"""What a coordinator cannot do, for it never holds a face: people for demo devices, and the judging of candidates.

Started as processes: the server package imports nothing of this one.
"""
