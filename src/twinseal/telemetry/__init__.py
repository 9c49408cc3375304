"""Telemetry: fleets of machines in one long form, the contract that they must meet, and the validation of a fleet.

In reading order; open `contract` (with policy/contract.yaml beside it) and `fleet` first:

    contract      what telemetry must be: channels, bounds, missing values; also for the network and the twin's guard
    fleet         the telemetry of many machines as one table
    columns       the columns of a table that somebody brings, when they are not those that were expected
    regimes       at which operating point of the contract a row was taken
    over_units    statistics over units that a few bad units cannot move far, and how far they can
    rules         how each rule of the contract is checked, in numpy
    screening     the rules of a contract, applied to a fleet; gives findings
    reference     what an accepted fleet looked like; drift is measured against it
    expectations  the same rules, and drift, as a suite of Great Expectations
    data_docs     Great Expectations' pages, made safe to open offline
    validation    which units are accepted, which go to quarantine, and when the whole fleet is refused

Where telemetry comes from is `twinseal.sources`.
"""
