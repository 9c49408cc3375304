"""The candidate: what kind of model this is, by its own signed config."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Bullets, Content
from twinseal.assurance.report.candidate_words import sentences
from twinseal.assurance.report.section import Section


def build(case: Case) -> Content:
    """One sentence a fact."""
    return Content(below=(Bullets(sentences(case.config)),))


SECTION = Section("candidate", "The candidate", 5, build)
