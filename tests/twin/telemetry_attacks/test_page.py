from __future__ import annotations

from tests.twin.telemetry_attacks.attack import ATTACKS
from tests.twin.telemetry_attacks.page import PAGE, page


def test_the_list_in_the_documents_is_the_battery() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "run: python -m tests.twin.telemetry_attacks"


def test_each_attack_says_in_one_sentence_what_the_attacker_does() -> None:
    assert [] == [item.name for item in ATTACKS if not item.sentence.endswith(".") or "\n" in item.sentence]
    names = [item.name for item in ATTACKS]
    assert sorted(set(names)) == sorted(names)
    assert len(names) >= 60


def test_each_attack_that_harms_a_machine_has_a_way_out_or_ends_the_device() -> None:
    assert ["a_stolen_key_after_its_revocation"] == [item.name for item in ATTACKS if item.harms and not item.way_out]
