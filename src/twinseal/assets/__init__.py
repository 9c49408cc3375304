"""A new asset: from an export of machines to the entries of the policy, proposed from what is in it.

    exports.py    the files as they are: encoding, separator, header, and a first look at the cells
    names.py      channel names and units of measure from a header
    moments.py    which columns name the rows: the unit, and its cycle or time
    event_files.py  tables of failures and replacements beside the telemetry
    columns.py    what the others are: label, setting, sensor, or nothing for a model
    measured.py   what each unit showed of each channel; which units are far from the others
    bounds.py     the contract, with the margins, and what each number rests on
    threats.py    what an attacker of this asset is proposed to control
    proposal.py   all of it together
    page.py       the proposal as one HTML page
    entries.py    the four entries and the section of params.yaml
    missing.py    what an asset still lacks, each with the command that mends it

Rules: nothing is guessed where two readings of a file are possible; what is left out is said. What is proposed is
marked so, and counts only once a person has accepted it.
"""
