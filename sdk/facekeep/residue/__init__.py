"""Looking for what must not be there: secrets in what was written, and whatever an erasure left behind.

Two searches share their parts. `search` knows the secrets and finds them in any spelling: the selftest, the demo and the tests use
it. `scanner` knows what may lie in the home of a device, and finds everything else: `facekeep erasure verify` uses it.
"""
