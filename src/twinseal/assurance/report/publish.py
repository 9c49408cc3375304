"""Publish: the report, its figures and the model card, as files."""

from __future__ import annotations

import shutil
from pathlib import Path

from twinseal.assurance.case import Case
from twinseal.assurance.report import model_card, page
from twinseal.assurance.report.section import build_all
from twinseal.files import write_whole


def publish(case: Case, folder: Path) -> None:
    """Write report.html, model_card.md and figures/ into `folder`; figures of an earlier run do not stay behind."""
    built = build_all(case)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    for figure in (figure for item in built for figure in item.figures):
        write_whole(folder / "figures" / f"{figure.name}.svg", figure.svg.encode())
    write_whole(folder / "report.html", page.render(case, built).encode())
    write_whole(folder / "model_card.md", model_card.render(case, built).encode())
