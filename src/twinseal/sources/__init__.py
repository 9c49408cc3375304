"""Where telemetry comes from. Only the stage ingest imports this package: a new source retrains no model.

In reading order; open `source` first:

    source       what every source has: its params, how it is opened, what it gives
    data_params  the section `data` of params.yaml: every source by its name, and `open_source`
    simulated    pumps simulated by NASA's ProgPy; the default
    cmapss       NASA's C-MAPSS turbofan data
    plant        what the next two have in common: a mapping of columns, labels, faults that policy bears or not
    table        your own CSV or Parquet files, their columns mapped in params.yaml
    events       tables of failures, replacements, errors and machines beside them: lives and labels
    sql          a database: one query, mapped as a table
    measurement_units  conversion into the contract's units, by pint

A new source is one file here with a SourceParams and a Source, and one field in `data_params.DataParams`.
"""
