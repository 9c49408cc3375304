"""The guard: before every prediction it checks each sensor against the contract, the other sensors, and earlier wear.

It repairs what it can, and says so; where it cannot, it abstains. In reading order; open `guard` first:

    guard            the guard at work: rows of many units at once, each as if alone; a GuardDecision of them
    judge            a unit in which something disagrees: which channels are wrong, by what they are replaced
    memory           the newest rows of each unit, and what is thought of its channels
    contract_limits  the rules of the contract for one reading: missing, out of range, too fast
    cross_channel    how far a channel disagrees with the others, and what the others predict for it
    wear             no machine becomes less worn: finds a manipulation of all channels together
    parameters       what was learned, as plain numbers; travels with the model as guard.json
    relations        learns how channels go together and wear; no few units decide it; the twin does not import it
    calibration      sets the thresholds for a chosen share of false alarms, and says how far bad units could move them

The guard needs numpy and the contract only, so it runs in the twin. What it cannot find is in docs/robustness.md: small
shifts of all sensors together, and attackers who know the guard. No gate counts it as protection against these.
"""
