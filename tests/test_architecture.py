"""The five sentences of the architecture, each held by a test (layers themselves: `lint-imports`, in `make check`)."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

# Each vendor has one door: the one module, or package, of ours that imports it.
DOORS = {
    "art": "twinseal.robustness.methods.art",
    "great_expectations": "twinseal.telemetry.expectations",
    "duckdb": "twinseal.telemetry.scan",
    "progpy": "twinseal.sources.simulated",
    "pint": "twinseal.sources.measurement_units",
    "mlflow": ("twinseal.registry", "twinseal.server"),
    "model_signing": "twinseal.trust.release.oms",
    "tlog_scales": "twinseal.trust.audit",
    "tuf": "twinseal.trust",
    "securesystemslib": "twinseal.trust",
    "cryptography": "twinseal.trust",
    "pkcs11": "twinseal.trust.keys.tokens",
    "webauthn": "twinseal.trust.keys.passkeys",
    "httpcore": "twinseal.twin.connection",
    "asyncua": "twinseal.twin.inputs.opcua_session",
    "google": "twinseal.twin.inputs.sparkplug_payload",  # protobuf
    "pydantic": (
        "twinseal.config",
        "twinseal.server.api",
        "twinseal.server.problems",
    ),  # FastAPI describes its calls by it
    "yaml": "twinseal.config",
    "ruamel": "twinseal.edited_yaml",
    "matplotlib": "twinseal.assurance",
    "jinja2": ("twinseal.assurance", "twinseal.server.pages"),
    "authlib": "twinseal.server.provider",
    "httpx": ("twinseal.server.senders", "twinseal.server.provider"),
    "joserfc": ("twinseal.server.provider", "twinseal.server.tokens", "twinseal.server.sessions"),
    "fastapi": "twinseal.server",
    "starlette": "twinseal.server",
    "uvicorn": "twinseal.server.serving",
    "limits": ("twinseal.server.gate", "twinseal.server.guesses"),
    "prometheus_client": ("twinseal.server.observing", "twinseal.twin.metrics"),
    "aiomqtt": ("twinseal.twin.inputs.broker_session", "twinseal.twin.outputs.mqtt"),
    "paho": ("twinseal.twin.frame_sender", "twinseal.twin.inputs.broker_session", "twinseal.twin.outputs.mqtt"),
    "psycopg": "twinseal.server.databases",
    "joblib": "twinseal.prognostics.clusters",
    "distributed": "twinseal.prognostics.clusters",
    "ray": "twinseal.prognostics.clusters",
    "pyspark": "twinseal.telemetry.spark_scan",
    "sklearn": "twinseal.prognostics.gradient_boosting",
    "safetensors": ("twinseal.prognostics.checkpoint", "twinseal.twin.units_image"),
    "typer": "twinseal.cli",
    "rich": ("twinseal.console", "twinseal.cli"),
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("twinseal", include_external_packages=True)


@pytest.mark.parametrize("vendor", sorted(DOORS))
def test_each_vendor_has_one_door(graph: grimp.ImportGraph, vendor: str) -> None:
    doors = DOORS[vendor] if isinstance(DOORS[vendor], tuple) else (DOORS[vendor],)
    assert vendor in graph.modules, f"{vendor} is imported by nothing: remove it from DOORS and from pyproject"
    importers = graph.find_modules_that_directly_import(vendor)
    outside = {m for m in importers if not any(m == door or m.startswith(f"{door}.") for door in doors)}
    assert set() == outside


TWIN_WITHOUT = (
    "torch",
    "pandas",
    "pyarrow",
    "mlflow",
    "art",
    "great_expectations",
    "dvc",
    "sklearn",
    "matplotlib",
    "progpy",
    "jinja2",
)


def test_the_twin_runs_where_the_pipeline_was_never_installed() -> None:
    """Every module of the twin and of the command line is imported with the pipeline's packages made unimportable."""
    program = f"""
import sys
for name in {TWIN_WITHOUT!r}:
    sys.modules[name] = None
import pkgutil, twinseal.twin, importlib
for module in pkgutil.iter_modules(twinseal.twin.__path__, "twinseal.twin."):
    if module.name != "twinseal.twin.plant_reader":  # needs twinseal[files], and is imported when such a file comes
        importlib.import_module(module.name)
import twinseal.cli
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_the_twins_install_brings_no_pipeline() -> None:
    """What `pip install twinseal[twin]` would bring, followed through the metadata of the locked packages."""
    brought: set[object] = {"twinseal"}
    waiting = _requirements("twinseal", "twin")
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) not in brought:
            brought |= {(name, extra), name}
            waiting += _requirements(name, extra)
    assert {"numpy", "tuf", "model-signing", "safetensors"} <= brought
    unwanted = {
        "torch",
        "pandas",
        "pyarrow",
        "mlflow",
        "mlflow-skinny",
        "adversarial-robustness-toolbox",
        "dvc",
        "great-expectations",
        "scikit-learn",
    }
    assert set() == brought & (unwanted | {"progpy", "matplotlib"})


def _requirements(name: str, extra: str) -> list[tuple[str, str]]:
    try:
        listed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # for another platform, or another extra
    wanted = [Requirement(text) for text in listed]
    chosen = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": extra})]
    return [(canonicalize_name(r.name), more) for r in chosen for more in (*r.extras, "")]


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys; old = set(sys.modules); import twinseal; print(sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "['twinseal']" == done.stdout.strip()


# Where people and build systems keep their folders; /etc, /usr, /srv, /media and the like are the same everywhere.
OF_A_MACHINE = re.compile(rb"(?<![\w.:/$}~*>)-])/(?:home|Users|root|work|opt|builds|workspace|mnt|github)/[\w.-]")
EXAMPLES = {
    b"/" + b"home/a": "tests/registry/test_store.py: an address that is no file of ours",
    b"/" + b"mnt/models": "where KServe puts a model, on every machine",
}


def tracked_text() -> Iterator[tuple[str, bytes]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix not in {".png", ".svg", ".lock"} and path.is_file():
            yield name, path.read_bytes()


def paths_of_machines(text: bytes, here: tuple[str, ...] = ()) -> list[bytes]:
    """Absolute paths in `text` that hold on one machine only: below a home or build folder, or one of `here`."""
    return OF_A_MACHINE.findall(text) + [path.encode() for path in here if path.encode() in text]


def test_no_private_key_is_in_the_repository() -> None:
    assert [] == [name for name, text in tracked_text() if b"PRIVATE KEY" + b"-----\nM" in text]


def test_no_path_of_a_machine_is_in_the_repository() -> None:
    """No absolute path below a home or build folder, and none that this machine uses, whatever that is."""
    temporary = Path(tempfile.gettempdir())
    here = {str(path) for path in (ROOT, Path.home(), Path(sys.prefix)) if len(path.parts) > 2 and path != temporary}
    for name, text in tracked_text():
        without = functools.reduce(lambda found, example: found.replace(example, b""), EXAMPLES, text)
        assert [] == paths_of_machines(without, tuple(here)), name


@pytest.mark.parametrize("folder", ["home/ann/x", "Users/ann/x", "root/.cache", "opt/wheels", "builds/a/b", "mnt/data"])
def test_a_path_of_a_machine_would_be_found(folder: str) -> None:
    for text in ("{}", "see `{}`", "file:{}", "cd {} && ls", '"{}"', "x={}"):
        assert paths_of_machines(text.replace("file:", "file: ").format(f"/{folder}").encode()), text
    for text in ("https://example.com/{}", "src/twinseal/{}", "$HOME/{}", "~/{}"):
        assert [] == paths_of_machines(text.format(folder).encode()), text


def test_what_is_refused_before_a_model_is_read_does_not_wait_for_torch() -> None:
    program = "import sys, twinseal.twin.pull; print([n for n in ('torch', 'pandas', 'mlflow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "[]\n" == done.stdout
