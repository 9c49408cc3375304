"""Trust: keys, signatures, the TUF repository, releases and approvals. Knows no machine learning.

In reading order, by who stands there:

    keys/                whoever has a key: private keys in files and tokens; public keys and their fingerprints
    signing/             the stages of the pipeline: DSSE envelopes, and each stage's signed record
    root/                who counts: the anchor and its pins, the policy of roles, the folder that all of this lies in
    ceremonies/          custodians: how the root changes; what expires when
    release/             builder, reviewers, registrar, twin: from a signed model to an approved release
    audit/               the log of every decision
    policy_approval.py   policy owners: the bar that candidates must pass, signed
    baseline_record.py   commissioners: a machine's first cycles, signed
    device_record.py     commissioners: which gateways may deliver what, signed
    life_acts.py         commissioners: what may be said of a machine's life
    life_record.py       commissioners: the acts on every machine, signed

A newcomer opens `root/anchor.py` first (what a twin trusts beforehand), then `release/candidate.py` (what a model must
pass). docs/trust.md numbers the steps.

Whatever reads bytes from outside returns the value or raises a `TwinsealError`: no exception of tuf, securesystemslib,
model_signing or cryptography leaks out.
"""
