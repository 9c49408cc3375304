"""The one door to MLflow: candidates go in, releases and their metadata are shown and served.

MLflow carries bytes. Its tags, aliases, versions and descriptions are for people and are never trusted inputs: whoever
writes to the server, its database or its disk can keep a model from the twin, and no more.

Importing this package is cheap; its modules import MLflow, which takes seconds. MLflow reads the settings below while
it is being imported, so they are made here, before any of the modules. What the user has set stands.
"""

import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nobody is told what runs here
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # the terminal belongs to twinseal.console
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default asks an unreachable server for four minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)
