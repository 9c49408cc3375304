"""Measures: every number that a stage may report, as a type. The one language of stages and assurance.

A stage writes its measures from these types, and whoever reads a signed record reads it back into them, strictly. So a
name is written once, a unit stands beside its number, and a gate cannot ask for what no stage writes.

    quantity      what a number is: its unit, its label, whether larger is better; a group of measures; how one is read
    keys          the keys of measures: eps-0.1, liars-2, queries-100, the names of threats
    words         what keys are called on a page: PGD, any error, 0.1 σ
    common        accuracy, and the worst case under an attack
    validation, preparation, training, robustness, poisoning, comparison
                  what each stage reports; `robustness` has one field for each attack
    stages        which stage reports which type; reading a statement; the JSON schema (measures.schema.json)

Open `common` first, then `robustness`. To add a measure: add a field, and fill it in the stage that measures it.
"""
