"""Where a twin's telemetry comes from: one module for each kind of source, all with the Protocol of `source`."""
