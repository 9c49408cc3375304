"""Where telemetry comes from. Only the stage ingest imports this package: a new source retrains no model.

In reading order; open `source` first:

    source       what every source has: its params, how it is opened, what it gives
    data_params  the section `data` of params.yaml: every source by its name, and `open_source`
    simulated    pumps simulated by NASA's ProgPy; the default
    cmapss       NASA's C-MAPSS turbofan data
    table        your own CSV or Parquet file, its columns mapped in params.yaml

A new source is one file here with a SourceParams and a Source, and one field in `data_params.DataParams`.
"""
