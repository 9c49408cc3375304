"""An attacker who controls r members of a median: the sensors that they read, or the histories that they learned from.

The worst case is known exactly (`prognostics.median_certificates`), so it is computed, not searched.
"""

from __future__ import annotations

from twinseal.measures.common import WorstCase
from twinseal.measures.keys import Liars, liars_key
from twinseal.measures.quantity import NOT_WRITTEN, Keys
from twinseal.prognostics.architecture import MAX_MEMBERS
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.families import MEDIANS
from twinseal.prognostics.median_certificates import certificates
from twinseal.robustness.attack import Attack, Plan, Testbed


def run(testbed: Testbed) -> dict[Liars, WorstCase]:
    """The certificate against each number of members; empty for a mean, which has none."""
    return certificates(networks_of(testbed.model.inference).plain, testbed.evaluation_set)


def keys(plan: Plan) -> Keys:
    """Any number of members that is less than half of the largest median; of a mean, none."""
    return {"": frozenset(map(liars_key, range((MAX_MEMBERS + 1) // 2))) if plan.family in MEDIANS else NOT_WRITTEN}


ATTACKS = (Attack("median_certificate", run, keys),)
