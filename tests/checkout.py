"""A working folder that has the code of this checkout, for stages that are run in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def link_code(folder: Path) -> None:
    """What a stage names as its code: `src` as a link, the pipelines as a copy."""
    if (folder / "src").exists():  # a copy of a folder that has it
        return
    (folder / "src").symlink_to(ROOT / "src")
    shutil.copytree(ROOT / "pipelines", folder / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)


def hide_code_from_dvc(folder: Path) -> None:
    """For a folder with a dvc.yaml of its own: all stages stand in pipelines/dvc.yaml, which DVC ignores there."""
    link_code(folder)
    files = (folder / "dvc.yaml", folder / "pipelines/dvc.yaml")
    stages = {name: stage for path in files for name, stage in yaml.safe_load(path.read_text())["stages"].items()}
    files[1].write_text(yaml.safe_dump({"stages": stages}))
    files[0].unlink()
    (folder / ".dvcignore").write_text("/pipelines\n/src\n")
