"""Publish: the report, its figures and the model card, as files."""

from __future__ import annotations

import shutil
from pathlib import Path

from twinseal.assurance.case import Case
from twinseal.assurance.report import model_card, page
from twinseal.assurance.report.section import build_all
from twinseal.files import write_whole


def publish(case: Case, folder: Path) -> tuple[Path, ...]:
    """Write report.html, model_card.md and figures/ into `folder`; figures of an earlier run do not stay behind.

    Returns:
        The files that were written.
    """
    built = build_all(case)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    pages = {f"figures/{figure.name}.svg": figure.svg for item in built for figure in item.figures}
    pages |= {"report.html": page.render(case, built), "model_card.md": model_card.render(case, built)}
    for name, text in pages.items():
        write_whole(folder / name, text.encode())
    return tuple(folder / name for name in pages)
