"""The root of trust: which keys count for which role. Every stage reads it; only `ceremonies` changes it.

In reading order:

    roles.py      what policy wants: policy/roles.yaml
    pins.py       what custodians have signed: the keys of each role, and which evidence a release needs
    metadata.py   TUF metadata as bytes from outside
    anchor.py     the TUF root that carries the pins; what a twin is installed with
    home.py       the one folder of a machine in which all of this lies; home_lock.py: one ceremony at a time
    checkout.py   which deployment a checkout names, and whether its user confirmed that
    private_folders.py   folders that nobody else may write to: the user's own, and DVC's site cache
    signers.py    policy/signers.json: whose keys sign here, so that DVC sees when they change

A newcomer opens `anchor.py` first.
"""
