"""Laws of measures, of groups drawn as their types allow: written, signed, read back, and accepted by the schema."""

from __future__ import annotations

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.measures.groups import all_groups, drawn
from twinseal.digests import canonical_json, parse_json
from twinseal.measures.quantity import read
from twinseal.measures.stages import STAGES, schema

GROUPS = {kind.__name__: kind for kind in all_groups()}
STAGE_OF = {kind: stage for stage, kind in STAGES.items()}


@pytest.mark.parametrize("name", sorted(GROUPS))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_group_is_read_back_as_it_was_written(name: str, data: st.DataObject) -> None:
    """Law: read(type(g), g.to_dict(), "") == g, by way of the canonical JSON that is signed; the schema accepts it."""
    kind = GROUPS[name]
    group = data.draw(drawn(kind))
    record = parse_json(canonical_json(group.to_dict()), "record")
    assert group == read(kind, group.to_dict(), "") == read(kind, record, "")
    if kind in STAGE_OF:
        VALIDATOR.validate({STAGE_OF[kind]: record})


VALIDATOR = jsonschema.Draft202012Validator(schema())
