"""The registry: the only package that imports MLflow. It puts candidates in, and shows and serves releases.

In reading order:

    registration.py   what the pipeline and the command line call: request a review, register a release, renew
    review_server.py  the same, when the store is a server that stages, reviews and publishes itself
    submit.py         a signed bundle becomes a candidate in MLflow, and its page says where it stands
    run.py            the run that shows how the candidate was made
    register.py       a published release becomes a model version in MLflow, with the metadata that twins fetch
    describe.py       the description that people read in MLflow
    locations.py      where artifacts may go: no other folder or host than the user named, whatever MLflow says
    store.py          the connection to MLflow; its errors become ours

A newcomer opens `registration.py` first.

MLflow carries bytes. Its tags, aliases, versions and descriptions are for people, and no decision rests on them:
whoever controls the server, its database or its disk can keep a model from the twin, and can do no more.

Importing this package takes no time; its modules import MLflow, which takes seconds. MLflow reads the settings below
while it is imported, so they are set here, before any of the modules. What the user has set stays.
"""

import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # no usage data leaves this machine
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # the terminal belongs to twinseal.console
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default asks an unreachable server for four minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)

# Whatever the user has set: a redirect would take credentials and files to a host that the server chooses, and parts of
# large files would go to addresses that it hands out (decision 20). Children of this process inherit it.
os.environ |= {
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
}
