"""The twin as a service: what it takes, answers, remembers, and how it changes its model while it runs.

In reading order:

    live.py       rows and frames in, answers out; remembered on the disk before they are answered
    shadow.py     whether another model may take the place of the one that runs
    approval.py   whether the model that runs is still approved
    settings.py   twin.yaml
    releases.py   looks for new ones
    watch.py      whether more rows are refused after a swap than before
    alerts.py     what is to be said beside answers
    service.py    sources, outputs, polls and alerts around it, until SIGTERM
"""
