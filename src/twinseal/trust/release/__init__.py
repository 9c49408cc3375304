"""Releases: from a signed model directory to the release that a twin may install.

In reading order, as a model goes:

    oms.py           the builder's signature over the model directory (OpenSSF Model Signing)
    candidate.py     a bundle of model, signature and evidence, verified in numbered steps
    release.py       one version of one model: every file by path, length and SHA-256
    model_role.py    the model's TUF role, which reviewers sign; how their signatures are counted
    request.py       what reviewers are asked to sign, while it waits in models/release/
    terms.py         the versions and the expiry that reviewers sign, checked against policy
    review_file.py   a reviewer's decision: one file in approvals/
    reviews.py       all files in approvals/: which decisions count, and who has rejected
    decisions.py     what a reviewer may decide; a review that was signed elsewhere
    approval.py      approving, rejecting, withdrawing, commenting with a key on this machine
    counters.py      the counters of authenticators, which only grow
    repository.py    the TUF repository to which the registrar adds approved releases
    client.py        the TUF client of a twin: from the anchor to the current release
    cached_expiries.py   until when what a twin has verified counts

A newcomer opens `candidate.py` first.
"""
