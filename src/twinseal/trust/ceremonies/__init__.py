"""What custodians do. The only code that makes a new root.

In reading order:

    ceremony.py   the first root, a renewal, a rotation, a revocation
    custody.py    the next root: proposed, signed by custodians one after the other, published
    overview.py   what expires when

A newcomer opens `ceremony.py` first.
"""
