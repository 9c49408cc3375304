"""The server: MLflow with plugins, so that a server refuses what a server can. `twinseal serve` starts it.

In reading order:

    settings.py        server.yaml
    serving.py         one command: databases, the first account, TLS, start and stop
    app.py             MLflow's app and our pages
    gate.py            what every request passes: host, size, account, origin, role (guesses.py, offers.py)
    people.py          accounts and roles
    ways.py            how a request says whom it is from: password, access token, session
    oidc.py            sign-in at an identity provider (oidc_settings.py, provider.py, tokens.py, sessions.py)
    provider_accounts.py   MLflow's accounts of those people; mlflow_person.py: how MLflow learns who asks
    observing.py       access log, metrics, health
    protected.py       which claims about a protected name are true
    registry_store.py  MLflow's registry store with protected names
    tracking_store.py  MLflow's tracking store, where candidates stay what they are
    artifact_store.py  MLflow's artifacts, written once
    closed.py          the candidates and runs that only the server still changes
    places.py          where on this disk a candidate's files are; candidates.py: what MLflow knows of them
    plugins.py         what MLflow finds by its entry points
    reviews.py         what waits, what was decided, what follows (cases.py: the values; counters.py: of passkeys)
    registrar.py       what enough have signed is published, and renewed
    api.py             the calls: decisions, passkeys (challenges.py, second_factor.py), problems.py: refusals
    pages.py           the pages (views.py: what they show; comparison.py: what changed); few.py: how many at once
    notices.py         who is told what: from the audit log (notice_settings.py), kept (outbox.py), sent (senders.py)
    rounds.py          what is done in the background
    backup.py          one file of all of it (archive.py, databases.py), and back: restore.py

No safety rests on it: a twin verifies everything again, as if this server were the enemy. What it gives is that people
cannot take the registry for an approval, and that nobody changes what others have read.
"""
