"""Check it yourself: what a reader can verify without believing this page."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Bullets, Content, Text
from twinseal.assurance.report.section import Section


def build(case: Case) -> Content:
    """The commands, and which figures rest on files that nobody signed."""
    blocks = (
        Text(
            "This page is for reading. It is not evidence: anyone can edit a page. The signed records decide, and your "
            "own machine can check them:"
        ),
        Bullets(
            (
                "`twinseal review show` verifies every signature and digest above, and shows what you are asked to "
                "sign.",
                "`twinseal verify models/bundle` checks the signed directory in the same way as the twin.",
                "`dvc repro` on a machine of yours, from the same commit, should give the same digests.",
            )
        ),
    )
    if not case.unsigned:
        return Content(below=blocks)
    listed = ", ".join(case.unsigned)
    return Content(
        below=(*blocks, Text(f"Some figures come from files that no signed record names: {listed}.", muted=True))
    )


SECTION = Section("check", "Check it yourself", 1000, build)
