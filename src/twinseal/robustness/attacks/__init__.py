"""The attacks, one file each. The battery finds every module here that has `ATTACKS`.

    false_age            a false age, the readings as they are            open this first: the shortest
    evasion              every reading changed by at most ε
    injection            a few sensors off by some percent, on single windows
    falsified_histories  whole histories falsified, without the guard and with it
    owned_sensors        k sensors that report any value in their physical range
    guard_aware          an attacker who knows the network and the guard
    repair_abuse         the guard made to replace honest readings
    held_sensors         one to four sensors for many rows, by who knows network, guard and ledger
    spent_life           no reading falsified: rows lost, repeated, renumbered, renamed
    controlled_members   members of a median under the attacker's control: the exact worst case
    boosted_trees        gradient boosting in the network's place
    extraction           what an attacker learns who can only query the twin
    membership           whether a unit was in the training data
    poisoning            poisoned training telemetry; the stage `poison` runs it

To add one: a module here with `run(testbed)`, the type of its threat, and `ATTACKS` (copy `boosted_trees`); its field
in `twinseal.measures.robustness`; its entries in policy/threats.yaml (`attacks`) and policy/gates.yaml; its section in
`assurance.report.sections`; a test. `python tests/measures/test_stages.py` writes the JSON Schema again.
"""
