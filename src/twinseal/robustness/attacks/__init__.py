"""The attacks, one file each. The battery finds every module here that has `ATTACKS`.

    false_age            a false age, the readings as they are            open this first: the shortest
    evasion              every reading changed by at most ε
    injection            a few sensors off by some percent, on single windows
    falsified_histories  whole histories falsified, without the guard and with it
    owned_sensors        a few sensors that report anything
    guard_aware          an attacker who knows the network and the guard
    repair_abuse         the guard provoked into repairing honest readings
    controlled_members   members of a median under the attacker's control: the exact worst case
    boosted_trees        gradient boosting in the network's place
    extraction           a model stolen by questions
    membership           who was in training
    poisoning            poisoned training telemetry; the stage `poison` runs it

To add one: a module here with `run(testbed)` and `ATTACKS`, its type in `twinseal.measures.robustness`, its threat in
policy/threats.yaml and `threats`, its section in `assurance.report.sections`, its gate in policy/gates.yaml, a test.
"""
