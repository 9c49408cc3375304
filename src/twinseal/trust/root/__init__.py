"""The root of trust: which keys count for which role, and the only way to change that.

In reading order:

    roles.py      what policy wants: policy/roles.yaml
    pins.py       what custodians have signed: the keys of each role, and which evidence a release needs
    anchor.py     the TUF root that carries the pins; what a twin is installed with
    custody.py    the next root: proposed, signed by custodians one after the other, published
    ceremony.py   what custodians do: first root, renewal, rotation, revocation

A newcomer opens `anchor.py` first.
"""
