"""The server: MLflow with plugins, so that a server refuses what a server can. `twinseal serve` starts it.

In reading order:

    settings.py        server.yaml
    serving.py         one command: databases, the first account, TLS, start and stop
    app.py             MLflow's app and our pages
    gate.py            what every request passes: host, size, account, origin, role
    people.py          accounts and roles
    ways.py            how a request says whom it is from: password, access token, session
    oidc.py            sign-in at an identity provider (oidc_settings.py, provider.py, tokens.py, sessions.py)
    provider_accounts.py   MLflow's accounts of those people; mlflow_person.py: how MLflow learns who asks
    observing.py       access log, metrics, health
    protected.py       which claims about a protected name are true
    registry_store.py  MLflow's registry store with protected names
    tracking_store.py  MLflow's tracking store, where candidates stay what they are
    artifact_store.py  MLflow's artifacts, written once
    places.py          where on this disk a candidate's files are
    plugins.py         what MLflow finds by its entry points
    notices.py         who is told what: from the audit log (notice_settings.py), kept (outbox.py), sent (senders.py)
    rounds.py          what is done in the background
    backup.py          one file of all of it (archive.py, databases.py), and back: restore.py

No safety rests on it: a twin verifies everything again, as if this server were the enemy. What it gives is that people
cannot take the registry for an approval, and that nobody changes what others have read.
"""
