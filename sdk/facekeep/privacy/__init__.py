"""Privacy of what a device contributes: clipping, noise, masks, shares, and the account of what was spent. Arrays in, arrays out.

Nothing here knows a face, a file or a socket. Formats are in docs/formats/masking.md, guarantees in
docs/compliance/differential-privacy.md.
"""
