"""DVC follows files, not imports: each stage's deps must name every module of ours that it imports, directly or not.

`python tests/test_dag.py` writes the modules that dvc.yaml lacks (and drops those it need not name).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
DVC = ROOT / "dvc.yaml"


def _stages() -> dict[str, Any]:
    stages = yaml.safe_load(DVC.read_text())["stages"]
    assert isinstance(stages, dict)
    return stages


def import_closure(stage: str) -> set[str]:
    """Every file of ours that `python -m pipelines.<stage>` imports, directly or not, and their packages."""
    graph = grimp.build_graph("twinseal", "pipelines", cache_dir=None)  # its cache outlives the files it describes
    start = f"pipelines.{stage}"
    modules = {start} | graph.find_upstream_modules(start)
    for module in set(modules):
        parts = module.split(".")
        modules |= {".".join(parts[:n]) for n in range(1, len(parts))}
    return {_file(module) for module in modules}


def _file(module: str) -> str:
    base = module.replace(".", "/") if module.startswith("pipelines") else "src/" + module.replace(".", "/")
    return f"{base}/__init__.py" if (ROOT / base).is_dir() else f"{base}.py"


@pytest.mark.parametrize("stage", sorted(_stages()))
def test_deps_name_the_whole_import_closure(stage: str) -> None:
    code = {dep for dep in _stages()[stage]["deps"] if dep.endswith(".py")}
    closure = {path for path in import_closure(stage) if (ROOT / path).stat().st_size}
    assert (set(), set()) == (closure - code, code - closure), "run: python tests/test_dag.py"


@pytest.mark.parametrize("stage", sorted(_stages()))
def test_each_stage_says_what_it_does_and_runs_its_own_script(stage: str) -> None:
    text = _stages()[stage]
    assert text["desc"]
    assert f"python -m pipelines.{stage}" == text["cmd"]


def test_stages_stand_in_reading_order() -> None:
    """Walking down dvc.yaml, a stage reads only what a stage above it has made, or what is in Git."""
    made: set[str] = set()
    for name, stage in _stages().items():
        outs = {_path(out) for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])}
        generated = [d for d in stage["deps"] if d.startswith(("data/", "models/", "reports/"))]
        for dep in generated:
            assert any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in made), (
                name,
                dep,
            )
        made |= outs


def test_every_stage_that_reads_evidence_has_it_in_its_deps() -> None:
    for name, stage in _stages().items():
        script = (ROOT / "pipelines" / f"{name}.py").read_text()
        for upstream in _stages():
            if f'upstream("{upstream}"' in script:
                assert f"reports/evidence/{upstream}.dsse.json" in stage["deps"], (name, upstream)


def _path(out: str | dict[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def _write() -> None:
    sys.path.insert(0, str(ROOT))
    from ruamel.yaml import YAML  # comes with DVC; keeps the comments

    reader = YAML()
    reader.width = 120
    reader.indent(mapping=2, sequence=4, offset=2)
    document = reader.load(DVC)
    for name, stage in document["stages"].items():
        others = [dep for dep in stage["deps"] if not dep.endswith(".py")]
        code = sorted(path for path in import_closure(name) if (ROOT / path).stat().st_size)
        stage["deps"] = others + code
    reader.dump(document, DVC)


if __name__ == "__main__":
    sys.exit(_write())
