"""How attacks search; who attacks, and with which budget, is in `attacks`.

    gradient             climbs along the gradient: several starts, momentum, steps that are halved (APGD)
    square               asks questions only (Square Attack)
    surrogate            the same network with a gradient everywhere, where its own vanishes
    art                  FGM, BIM, PGD and membership inference of ART: the only door to it
    stealth_constraints  which changes the guard does not notice, as linear bounds

Open `gradient` first.
"""
