"""What the stages of the pipeline sign with.

In reading order:

    dsse.py         DSSE envelopes: signed bytes, and back
    attestation.py  a stage's statement, signed by the role that answers for it

A newcomer opens `attestation.py` first.
"""
