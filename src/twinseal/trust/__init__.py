"""Trust: keys, signatures, the TUF repository, releases and approvals. Knows no machine learning.

In reading order:

    keys/                private keys in files and tokens; public keys and their fingerprints
    metadata.py, dsse.py  the two formats of what is signed: TUF metadata, and DSSE envelopes
    root/                the root of trust: which keys count for which role, and how custodians change that
    home.py              the one folder of a machine in which all of this lies
    attestation.py       a pipeline stage's signed record
    release/             from a signed model to the release that reviewers have approved
    audit/               the log of every decision
    baseline_record.py   a machine's first cycles, signed by commissioners
    overview.py          what expires when

A newcomer opens `root/anchor.py` first (what a twin trusts beforehand), then `release/candidate.py` (what a model must
pass). docs/trust.md numbers the steps.

Whatever reads bytes from outside returns the value or raises a `TwinsealError`: no exception of tuf, securesystemslib,
model_signing or cryptography leaks out.
"""
