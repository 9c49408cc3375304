"""A new asset: from an export of machines to the entries of the policy, proposed from what is in it.

    exports.py    the files as they are: encoding, separator, header, and a first look at the cells
    queries.py    the same for the answer of a database
    names.py      channel names and descriptions from a header
    units_of_measure.py  the unit that a header clearly names
    moments.py    which columns name the rows: the unit, and its cycle or time
    event_files.py  tables of failures and replacements beside the telemetry
    columns.py    what the others are: label, setting, sensor, or nothing for a model
    categories.py  columns of words: states of the machine, numbered
    readings.py   how cells become readings: units, conversions, factors, words
    plans.py      the channels before they have bounds
    measured.py   what each unit showed of each channel; which units are far from the others
    channel_bounds.py  the bounds of one channel, and the step of its digits
    bounds.py     the contract, with the margins, and what each number rests on
    threats.py    what an attacker of this asset is proposed to control
    proposal.py   all of it together
    page.py       the proposal as one HTML page
    entries.py    the four entries and the section of params.yaml
    missing.py    what an asset still lacks, each with the command that mends it

Rules: nothing is guessed where two readings of a file are possible; what is left out is said. What is proposed is
marked so, and counts only once a person has accepted it.
"""
