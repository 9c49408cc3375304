from __future__ import annotations

from tests.attacks.table import MAX_DESCRIPTION, PAGE, STEPS, attacks, page


def test_the_table_in_the_documents_is_the_one_that_the_tests_make() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "run: python -m tests.attacks"


def test_descriptions_are_short() -> None:
    assert [] == [attack for attack in attacks() if len(attack.description) > MAX_DESCRIPTION]


def test_every_step_stops_something() -> None:
    assert set(STEPS) == {step for attack in attacks() for step in attack.steps}


def test_no_two_tests_of_attacks_have_one_name_in_a_file() -> None:
    names = [attack.test for attack in attacks()]
    assert sorted(set(names)) == sorted(names)
    assert len(names) > 100
