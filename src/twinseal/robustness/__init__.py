"""Robustness: the attackers of policy/threats.yaml, let loose on a candidate, and an honest count of what they did.

    threats       who attacks, with what budget                (policy/threats.yaml)
    evasion       small changes to every reading               (through art_adapter, the only door to ART)
    injection     a few sensors off by a percentage            (Mode, Calyam & Hoque 2020)
    poisoning     the training data changed, and retrained
    evaluation_set         the windows that all of this is measured on
    sanity        reasons to doubt the numbers above

Imports nothing here, so that reading the threats needs neither torch nor ART.
"""
