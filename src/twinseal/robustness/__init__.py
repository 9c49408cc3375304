"""Robustness: the attackers of policy/threats.yaml, run on a candidate, and an honest measurement of what they did.

    threats        who attacks, with which budget: policy/threats.yaml as values
    attack         what an attack is, and what every attack is given
    battery        which attacks run: every file in `attacks`; their measures, tests and keys
    attacks/       one file an attack
    methods/       how attacks search: gradients, questions, ART; not who attacks
    target         a model as attackers see it
    histories      whole lives of units, and what the guard and the twin make of them
    attack_checks  checks that the attacks worked
    example_life   one unit's life under each attack, to draw

Open `attack`, then `attacks/false_age.py`: a whole attack on one page. Nothing is imported here, so that reading the
threats needs neither torch nor ART.
"""
