"""The routes of the installed MLflow with accounts, by what this server makes of them.

    python -m tests.server.mlflow_routes > tests/server/mlflow_offered.txt      after a look at what is new

Each line is a method and a path that `offers.py` offers; what it does not is left out.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from tests.warm import shared
from twinseal.server.offers import is_offered
from twinseal.server.people import write_auth_config

OFFERED = Path(__file__).with_name("mlflow_offered.txt")


def offered() -> list[str]:
    """The routes that are offered: `METHOD /path`; what stands for a parameter is `x`."""
    return [line for line in routes() if is_offered(line.partition(" ")[2])]


def routes() -> list[str]:
    """All of them; in a process of their own, for MLflow reads the environment when it is imported."""
    found = shared().run("tests.server.mlflow_routes", "all")
    found.check_returncode()
    return found.stdout.splitlines()


def _routes_here(folder: Path) -> set[str]:
    write_auth_config(folder / "auth.ini", f"sqlite:///{folder}/accounts.db")
    os.environ |= {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    from mlflow.server import app as flask
    from mlflow.server import auth

    fast = auth.create_app()
    found = {f"{method} {rule.rule}" for rule in flask.url_map.iter_rules() for method in rule.methods or ()}
    paths = fast.openapi()["paths"].items()
    found |= {f"{method.upper()} {path}" for path, methods in paths for method in methods}
    return {re.sub(r"<[^>]+>|\{[^}]+\}", "x", line) for line in found if not line.startswith(("HEAD", "OPTIONS"))}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        listed = sorted(_routes_here(Path(made))) if sys.argv[1:] == ["all"] else offered()
        sys.stdout.write("\n".join((*listed, "")))
