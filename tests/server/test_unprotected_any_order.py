"""Names that no anchor lists: any changes in any order are answered as MLflow's own store answers them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag

from tests.server import test_unprotected
from tests.server.alike import alike
from tests.server.databases import set_up_mappers
from tests.server.test_unprotected import NAME, versions
from twinseal.trust.root.home import Home

pytestmark = pytest.mark.proof  # it takes half a minute: `make proof`

NOT_COMPARED = {
    "link_prompt_version_to_model": "writes to the tracking store alone",
    "link_prompt_version_to_run": "writes to the tracking store alone",
    "link_prompts_to_trace": "writes to the tracking store alone",
    "test_webhook": "neither has it: MLflow's server sends the test itself, and the error names the class",
}


@pytest.fixture(autouse=True)
def _home(protected_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSEAL_HOME", str(protected_home.path))


names = st.sampled_from([NAME, "gearbox", "pump-rul-2", "it's", None, "", "a/b"])
numbers = st.sampled_from([1, 2, 3, "1", "2", "x", None])
keys = st.sampled_from(["a", "b", None, "twinseal.release_version"])
aliases = st.sampled_from(["champion", "b", "v1", None])
texts = st.sampled_from(["text", "", None])
m_tags = st.builds(RegisteredModelTag, keys, st.sampled_from(["1", "2", ""]))
v_tags = st.builds(ModelVersionTag, keys, st.sampled_from(["1", "2", ""]))
sources = st.sampled_from(["a/B", "file:///c", f"models:/{NAME}/1", "models:/gearbox/2", ""])
stages = st.sampled_from(["Staging", "production", "Archived", "None", "x"])


def calls(method: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(method), st.tuples(*arguments))


CHANGES = st.one_of(
    calls("create_registered_model", names, st.none() | st.lists(m_tags, max_size=2), texts),
    calls("create_model_version", names, sources, texts, st.none() | st.lists(v_tags, max_size=2), texts, texts),
    calls("create_model_version", names, sources),
    calls("update_registered_model", names, texts),
    calls("rename_registered_model", names, names),
    calls("delete_registered_model", names),
    calls("set_registered_model_tag", names, m_tags),
    calls("delete_registered_model_tag", names, keys),
    calls("update_model_version", names, numbers, texts),
    calls("transition_model_version_stage", names, numbers, stages, st.booleans()),
    calls("delete_model_version", names, numbers),
    calls("set_model_version_tag", names, numbers, v_tags),
    calls("delete_model_version_tag", names, numbers, keys),
    calls("set_registered_model_alias", names, aliases, numbers),
    calls("delete_registered_model_alias", names, aliases),
    calls("create_prompt", names, texts),
    calls("create_prompt_version", names, texts),
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(CHANGES, min_size=5, max_size=25))
def test_any_changes_in_any_order(pair: tuple[str, str], changes: list[tuple[str, tuple[Any, ...]]]) -> None:
    with alike(*pair) as both:
        both.empty_tables()
        for name in (NAME, "gearbox"):
            versions(both, name, count=2)
        for method, arguments in changes:
            try:
                getattr(both, method)(*arguments)
            except Exception:  # both raised the same
                continue
        both.check_tables()


def test_every_public_method_is_compared() -> None:
    """A method that a new MLflow adds is one that our store may have to guard: somebody must look at it."""
    set_up_mappers()
    from twinseal.server.registry_store import ProtectedStore

    functions = inspect.getmembers(ProtectedStore, inspect.isfunction)
    stories = inspect.getsource(test_unprotected)
    compared = {name for name, _ in functions if f"both.{name}" in stories or f'"{name}"' in stories}
    assert {name for name, _ in functions if not name.startswith("_")} == compared | NOT_COMPARED.keys()
    assert set() == compared & NOT_COMPARED.keys()
