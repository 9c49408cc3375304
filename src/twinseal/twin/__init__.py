"""The twin: fetch what a registry offers, admit what the evidence allows, run it behind a guard.

In reading order:

    pull.py               the whole way of a release into the twin, in numbered steps
    byte_sources.py       where bytes come from: an MLflow server, or a folder; never trusted
    connection.py         TCP with one deadline for everything
    fetch.py              one signed file, hashed while it streams in
    admit.py              from files on the disk to a VerifiedModel: the only way to make one
    state.py              the twin's folder: what it has seen, what it has installed
    locks.py              what may happen at the same time in that folder
    journal.py            what the twin writes into its audit log
    mirror.py             a release on a disk, for a twin without a network
    export.py             a verified release, laid out for another server
    trust_ends.py         until when the trust lasts, and who must act
    memory.py             what the twin has seen, from its folder and its audit log together
    clock.py              a person says that a clock that was ahead is right now
    runtime.py            predictions, of one row or of many at once
    units.py              what is known of each unit, in arrays: its rows behind the guard, and what is said of it
    answers.py            what programs get of a prediction
    outputs/              where answers and alerts go; begin with output.py
    metrics.py            what is counted, for Prometheus
    probe.py              whether the twin on this machine works
    notify.py             what systemd is told
    telemetry_reader.py   telemetry from files and streams
    plant_reader.py       Parquet, and files as the plant exports them; needs pandas
    rows.py               what a unit, a cycle and a reading are
    commissioners.py      who may sign what is said beside the machines
    signed_records.py     what commissioners say in one file, of any kind: which version counts
    record_enroller.py    signs such a record, k of n
    devices.py            which gateways may deliver what
    enrolled_lives.py     which machines there are, and what was done to each
    commissioner.py       signs the baseline record of a new machine
    commissioning.py      decides which baseline records count
    seen_records.py       the newest baseline record seen of each unit; an older one is refused
    baseline_rows.py      takes the rows of a baseline record out of telemetry

A newcomer opens `pull.py` first, then `runtime.py`.

Small on purpose: no MLflow, no attacks, no training, no batch validation. Importing this package imports nothing else.
"""
