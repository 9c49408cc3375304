"""DVC follows files, not imports: each stage's deps must cover every module of ours that it imports, directly or not.

Deps name packages (folders) where a stage needs them, so that dvc.yaml can be read. These tests hold the grain: nothing
imported is left out, nothing is named in vain, and what people do with keys and approvals retrains no model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from twinseal.evidence_chain import OBEYED
from twinseal.policy_entries import DIVIDED

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "dvc.yaml", ROOT / "pipelines" / "dvc.yaml")


def stages() -> dict[str, Any]:
    """Every stage, with its paths as the root of the repository sees them."""
    return {name: stage for file in FILES for name, stage in yaml.safe_load(file.read_text())["stages"].items()}


def import_closure(stage: str) -> set[str]:
    """Every file of ours that `python -m pipelines.<stage>` imports, directly or not, and their packages."""
    graph = grimp.build_graph("twinseal", "pipelines", cache_dir=None)  # its cache outlives the files it describes
    start = f"pipelines.{stage}"
    modules = {start} | graph.find_upstream_modules(start)
    for module in set(modules):
        parts = module.split(".")
        modules |= {".".join(parts[:n]) for n in range(1, len(parts))}
    return {file for file in map(_file, modules) if (ROOT / file).stat().st_size and not _is_map(file)}


def code_deps(stage: str) -> set[str]:
    return {dep for dep in stages()[stage]["deps"] if dep.startswith(("src/", "pipelines/"))}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def _file(module: str) -> str:
    base = module.replace(".", "/") if module.startswith("pipelines") else "src/" + module.replace(".", "/")
    return f"{base}/__init__.py" if (ROOT / base).is_dir() else f"{base}.py"


def _is_map(file: str) -> bool:
    """A package's `__init__` that holds its description and no code."""
    text = (ROOT / file).read_text()
    return file.endswith("__init__.py") and not any(
        line.startswith(("from ", "import ", "def ")) for line in text.splitlines()
    )


@pytest.mark.parametrize("stage", sorted(stages()))
def test_deps_cover_the_whole_import_closure_and_nothing_else(stage: str) -> None:
    closure, deps = import_closure(stage), code_deps(stage)
    assert set() == {file for file in closure if not any(covers(dep, file) for dep in deps)}, "imported, not in deps"
    assert set() == {dep for dep in deps if not any(covers(dep, file) for file in closure)}, "in deps, not imported"


PEOPLE = (
    "src/twinseal/trust/release",
    "src/twinseal/trust/ceremonies",
    "src/twinseal/trust/audit",
    "src/twinseal/registry",
    "src/twinseal/cli",
    "src/twinseal/twin",
)
SOURCES = "src/twinseal/sources"


@pytest.mark.parametrize("stage", ["ingest", "validate", "prepare", "train", "compare", "evade", "poison", "assess"])
def test_code_of_reviewers_and_custodians_makes_no_model_again(stage: str) -> None:
    assert [] == [
        (dep, place) for dep in code_deps(stage) for place in PEOPLE if covers(dep, place) or covers(place, dep)
    ]


@pytest.mark.parametrize("stage", ["prepare", "train", "compare", "evade", "assess"])
def test_a_new_telemetry_source_makes_no_model_again(stage: str) -> None:
    assert [] == [dep for dep in code_deps(stage) if covers(dep, SOURCES) or covers(SOURCES, dep)]


def test_dvc_yaml_can_be_read_at_one_sitting() -> None:
    lines = (ROOT / "dvc.yaml").read_text().splitlines()
    assert len(lines) <= 171
    assert max(map(len, lines)) <= 120


def test_the_comparison_of_families_is_no_part_of_the_default_run() -> None:
    root = yaml.safe_load(FILES[0].read_text())["stages"]
    assert "compare" in stages() and "compare" not in root
    assert not [name for name, stage in root.items() for dep in stage["deps"] if "compare" in dep]


@pytest.mark.parametrize("stage", sorted(stages()))
def test_each_stage_says_what_it_does_and_runs_its_own_script(stage: str) -> None:
    text = stages()[stage]
    assert text["desc"]
    assert f"python -m pipelines.{stage}" == text["cmd"]


def test_stages_stand_in_reading_order() -> None:
    """Walking down dvc.yaml, a stage reads only what a stage above it has made, or what is in Git."""
    made: set[str] = set()
    for name, stage in stages().items():
        outs = {_path(out) for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])}
        generated = [d for d in stage["deps"] if d.startswith(("data/", "models/", "reports/"))]
        for dep in generated:
            assert any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in made), (
                name,
                dep,
            )
        made |= outs


@pytest.mark.parametrize("stage", sorted(OBEYED))
def test_a_stage_depends_on_what_its_record_says_it_obeyed_and_on_no_other_asset(stage: str) -> None:
    """On the parts of policy/ that are about the asset in hand: those files whole would run it again for any asset."""
    deps = {dep for dep in stages()[stage]["deps"] if "policy/" in dep and not dep.startswith(("src/", "pipelines/"))}
    parts = {f"data/policy/{Path(file).stem}.json" for file in OBEYED[stage]}
    assert parts | {"policy/signers.json"} == deps
    assert {f"policy/{name}" for name in DIVIDED} <= set(stages()["policy"]["deps"])


def test_every_stage_that_reads_evidence_has_it_in_its_deps() -> None:
    for name, stage in stages().items():
        script = (ROOT / "pipelines" / f"{name}.py").read_text()
        for upstream in stages():
            if f'upstream("{upstream}"' in script:
                assert f"reports/evidence/{upstream}.dsse.json" in stage["deps"], (name, upstream)


def _path(out: str | dict[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))
