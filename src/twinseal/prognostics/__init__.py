"""Prognostics: from a fleet to windows, to networks that estimate the remaining useful life, to their checkpoint.

    splitting, normaliser, raw_rows, windows    from telemetry to windows; each unit in one split by its name
    architecture, families                      what networks there are; what a model is built for
    network, ensemble                           one network; a mean or a median of several; in torch
    inference                                   the same in NumPy: what a model answers with
    fitting, training, processes, candidate     one network fitted; a family trained; the whole candidate
    crown, rounding, median_certificates        the proofs: bounds that no attack within ε can leave
    conformal                                   prediction intervals
    bad_units                                   what few bad training units could have moved, but for the networks
    metrics, evaluation, evaluation_set         how good estimates are, clean and at the worst end of their bounds
    gradient_boosting, comparison               what the networks are compared with; all families side by side
    weights, checkpoint                         the model as files, read as if an enemy had written them
    finite_answers                              a model that would refuse every row is not read

Open `network` first: the model fits on one page. Importing this package imports nothing else: the twin takes
`inference` and `checkpoint`, and sees neither torch nor scikit-learn.
"""

import os

# MKL sums in an order that depends on where an array lies in memory, on the threads and on the processor: the same
# training in another process would give other last digits, and other bytes to sign. Read when MKL is first called, so
# it stands here, before anything imports torch. (Intel oneMKL Developer Guide, "Conditional Numerical
# Reproducibility"; STRICT, because processors of Intel ask for aligned arrays without it.)
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
