"""twinseal: the pipeline that a predictive-maintenance model must pass before a digital twin will load it.

The data's way runs downhill through the packages, and imports follow it (see `docs/decisions/0001-layers.md`):

    telemetry → prognostics → robustness → assurance → trust → registry → twin

Importing this package imports nothing else.
"""

__version__ = "0.1.0"
