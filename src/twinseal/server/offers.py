"""Offers: which calls and pages of MLflow this server offers. What is not listed is offered to nobody.

What would run code on this server, send requests from it, or is about language models is not listed: MLflow's gateway,
assistant, jobs, scorers, evaluations, demo, telemetry. `tests/server/mlflow_offered.txt` has every route that is.
"""

from __future__ import annotations

import re

_AREAS = (
    "artifacts", "datasets", "experiments", "get-trace-artifact", "logged-models", "metrics", "model-versions",
    "permissions", "registered-models", "roles", "runs", "server-info", "traces", "users", "webhooks",
)  # fmt: skip
_KIND = re.compile(
    r"/(?P<kind>twinseal|api/twinseal|static-files|health|graphql|version|get-artifact|model-versions/get-artifact"
    r"|(?:ajax-)?api/2\.0/mlflow-artifacts/(?:artifacts|mpu)"
    rf"|(?:ajax-)?api/[23]\.0/?mlflow/(?:{'|'.join(_AREAS)}))(?:/|\Z)"
)
_EXCEPTED = re.compile(
    r"/(ajax-)?api/[23]\.0/mlflow/(artifacts/presigned|runs/create-promptlab-run|users/(signup|create-ui))"
)


def kind_of(path: str) -> str:
    """The kind of a request, of a fixed list: ids, and the names of files and models, are left out.

    >>> [kind_of(path) for path in ("/", "/api/2.0/mlflow/runs/get", "/api/2.0/mlflow/anything")]
    ['page', 'api/2.0/mlflow/runs', 'other']
    """
    found = _KIND.match(path)
    return found["kind"] if found else "page" if path == "/" else "other"


def is_offered(path: str) -> bool:
    """Whether there is something at this path for anybody.

    >>> [is_offered(path) for path in ("/api/2.0/mlflow/runs/get", "/ajax-api/3.0/mlflow/scorer/invoke")]
    [True, False]
    """
    return kind_of(path) != "other" and not _EXCEPTED.match(path)
