"""Prognostics: from a fleet to windows, to a network that estimates the remaining useful life, to its checkpoint.

Importing this package imports nothing else: the twin takes `network` and `checkpoint` and never sees scikit-learn.
"""

import os

# MKL sums in an order that depends on where an array lies in memory, on the threads and on the processor: the same
# training in another process would give other last digits, and other bytes to sign. Read when MKL is first called, so
# it stands here, before anything imports torch. (Intel oneMKL Developer Guide, "Conditional Numerical
# Reproducibility"; STRICT, because processors of Intel ask for aligned arrays without it.)
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
