"""Assurance: evidence × policy → a verdict, and the pages that a reviewer reads before staking a name on it.

    gates             policy/gates.yaml: which measure must keep which bound; the judgement
    gate_keys         whether the stages write what the gates name
    proposed_bounds   bounds for an asset that has none, from a first run; written_bounds writes them into the file
    evidence_chain    which signed records there must be, and whether they are about the model in hand
    verdict           the verdict as a signed record
    headline          about ten numbers for `dvc metrics`
    case              everything that the pages are made from, read once and checked
    candidate_config  what kind of model the candidate is, from its own signed files
    report/           the report and the model card

Open `gates` first.
"""
