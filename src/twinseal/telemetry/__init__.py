"""Telemetry: fleets of machines in one long form, the contract that they must meet, and the validation of a fleet.

In reading order; open `contract` (with policy/contract.yaml beside it) and `fleet` first:

    contract      what telemetry must be: channels, bounds, missing values; also for the network and the twin's guard
    fleet         the telemetry of many machines as one table
    columns       the columns of a table that somebody brings, when they are not those that were expected
    mapping       which column of a plant's files holds which channel; for training and for the twin
    forms, time_params   how a plant writes text and time stamps; parts of a mapping
    mapped_rows   those files read by their mapping; with plant_files, delimited, time_stamps, unit_names, tables
    csv_lines     CSV line by line, within bounds
    regimes       at which operating point of the contract a row was taken
    over_units    statistics over units that a few bad units cannot move far, and how far they can
    unit_rows     where each unit begins in a table, and the row before in the same regime
    blocks        a fleet in blocks of whole units, for work that must not need memory for all of it
    consistency   whether the sensors of a unit agree, as they do in the rest of the fleet
    rules         how each rule of the contract is checked, in numpy
    screening     the rules of a contract, applied to a fleet; gives findings
    conditions    the same rules in SQL, and the rows that they are about
    scan          how many rows break each rule, counted by DuckDB
    engines       what counts: DuckDB, or Spark (spark_scan, whose workers read parts)
    reference     what an accepted fleet looked like
    drift         how far a fleet lies from the reference, and how far chance takes one of so few units
    expectations  counts, judged by Great Expectations
    data_docs     Great Expectations' pages, made safe to open offline
    outcome       what is broken, and by which unit: all of the above, applied once
    copies, stuck, resolution  histories that are another's, frozen sensors, steps of the recorded digits
    validation    which units are accepted, which go to quarantine, and when the whole fleet is refused

Where telemetry comes from is `twinseal.sources`.
"""
