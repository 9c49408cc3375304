"""Trust: keys, signatures, the TUF repository, releases and approvals. Knows no machine learning.

Whatever reads bytes from outside gives the value or a `TwinsealError`: nothing of tuf, securesystemslib, model_signing
or cryptography leaks out.
"""
