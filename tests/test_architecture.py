"""The five sentences of the architecture, each held by a test (layers themselves: `lint-imports`, in `make check`)."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
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
    "progpy": "twinseal.sources.simulated",
    "mlflow": "twinseal.registry",
    "model_signing": "twinseal.trust.release.oms",
    "tlog_scales": "twinseal.trust.audit",
    "tuf": "twinseal.trust",
    "securesystemslib": "twinseal.trust",
    "cryptography": "twinseal.trust",
    "pkcs11": "twinseal.trust.keys.tokens",
    "httpcore": ("twinseal.twin.byte_sources", "twinseal.twin.connection"),
    "pydantic": "twinseal.config",
    "yaml": "twinseal.config",
    "matplotlib": "twinseal.assurance",
    "jinja2": "twinseal.assurance",
    "sklearn": "twinseal.prognostics.gradient_boosting",
    "safetensors": "twinseal.prognostics",
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


TWIN_WITHOUT = ("mlflow", "art", "great_expectations", "dvc", "sklearn", "matplotlib", "progpy", "jinja2")


def test_the_twin_runs_where_the_pipeline_was_never_installed() -> None:
    """Every module of the twin and of the command line is imported with the pipeline's packages made unimportable."""
    program = f"""
import sys
for name in {TWIN_WITHOUT!r}:
    sys.modules[name] = None
import pkgutil, twinseal.twin, importlib
for module in pkgutil.iter_modules(twinseal.twin.__path__, "twinseal.twin."):
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
    assert {"torch", "tuf", "model-signing", "safetensors"} <= brought
    unwanted = {
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


def test_no_private_key_and_no_path_of_a_machine_is_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".png", ".svg", ".lock"} or not path.is_file():
            continue
        text = path.read_bytes()
        for forbidden in (b"PRIVATE KEY" + b"-----\nM", b"/opt/" + b"wheels", b"/work/" + b"main"):
            assert forbidden not in text, f"{name} holds {forbidden!r}"
