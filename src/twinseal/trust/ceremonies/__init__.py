"""What custodians do. The only code that makes a new root.

In reading order:

    ceremony.py   the first root, a renewal, a rotation, a revocation
    inspection.py a proposal compared with policy and the root before, in words for the custodian who signs it
    custody.py    the next root: proposed, signed by custodians one after the other, published
    overview.py   what expires when

A newcomer opens `ceremony.py` first.
"""
