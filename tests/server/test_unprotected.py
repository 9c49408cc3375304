"""Names that no anchor lists live MLflow's ordinary life: our store answers as MLflow's own does.

Each call of these tests goes to both stores, over databases of their own; `alike.py` compares answers, errors and rows.
MLflow's tests of its own store say what a registry's life is: these walk through the same, and more.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent, WebhookStatus
from mlflow.exceptions import MlflowException

from tests.server.alike import Both, alike
from tests.server.databases import our_store
from twinseal.trust.root.home import Home

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

NAME = "bearing-rul"
NEAR = ("pump-rul-2", "pump.rul", "a pump-rul", "pumps", "турбина", "насос-1", "泵", "rul", "pump-rul'", "%")
CREATED = WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED)
REGISTERED = WebhookEvent(WebhookEntity.REGISTERED_MODEL, WebhookAction.CREATED)


@pytest.fixture(autouse=True)
def _home(protected_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSEAL_HOME", str(protected_home.path))


@pytest.fixture
def both(pair: tuple[str, str]) -> Iterator[Both]:
    """The two stores; in the end their rows are compared."""
    with alike(*pair) as made:
        yield made
        made.check_tables()


@pytest.fixture
def ours(new_database: Callable[[], str]) -> Iterator[Any]:
    with our_store(new_database()) as store:
        yield store


def model_tags(**tags: str) -> list[RegisteredModelTag]:
    return [RegisteredModelTag(key, value) for key, value in tags.items()]


def version_tags(**tags: str) -> list[ModelVersionTag]:
    return [ModelVersionTag(key, value) for key, value in tags.items()]


def versions(both: Both, name: str = NAME, count: int = 3) -> None:
    both.create_registered_model(name)
    for number in range(1, count + 1):
        both.create_model_version(name, f"file:///models/{number}", run_id=f"{number:032x}")


def refused(call: Callable[..., Any], *args: Any, code: str, match: str | None = None) -> None:
    with pytest.raises(MlflowException, match=match) as raised:
        call(*args)
    assert code == raised.value.error_code


def test_mlflow_opens_our_store_for_our_scheme(ours: Any) -> None:
    from twinseal.server.registry_store import ProtectedStore

    assert isinstance(ours, ProtectedStore)
    refused(ours.create_registered_model, "pump-rul", code="PERMISSION_DENIED", match="expected a release")


@pytest.mark.parametrize("name", NEAR)
def test_name_that_only_resembles_a_protected_one_is_ordinary(both: Both, name: str) -> None:
    both.create_registered_model(name, model_tags(a="b"), "text")
    assert 1 == both.create_model_version(name, "s3://models/1").version
    both.set_registered_model_alias(name, "champion", "1")
    both.set_model_version_tag(name, "1", ModelVersionTag("twinseal.release_version", "7"))
    assert {"twinseal.release_version": "7"} == both.get_model_version_by_alias(name, "champion").tags
    both.rename_registered_model(name, "elsewhere")
    both.delete_registered_model("elsewhere")


def test_models(both: Both) -> None:
    assert {"a": "b"} == both.create_registered_model(NAME, model_tags(a="b"), "text", "job").tags
    refused(both.create_registered_model, NAME, code="RESOURCE_ALREADY_EXISTS")
    for nameless in (None, "", "a/b", "a:b"):
        refused(both.create_registered_model, nameless, code="INVALID_PARAMETER_VALUE")
    assert "new" == both.update_registered_model(NAME, "new").description
    assert both.update_registered_model(NAME, None, deployment_job_id="7").description is None
    both.create_registered_model("taken")
    refused(both.rename_registered_model, NAME, "taken", code="RESOURCE_ALREADY_EXISTS")
    refused(both.rename_registered_model, NAME, "", code="INVALID_PARAMETER_VALUE")
    refused(both.rename_registered_model, "nowhere", "new", code="RESOURCE_DOES_NOT_EXIST")
    both.rename_registered_model(NAME, "renamed")
    both.create_registered_model(NAME)
    both.delete_registered_model("renamed")
    for gone in (both.get_registered_model, both.delete_registered_model, both.get_latest_versions):
        refused(gone, "renamed", code="RESOURCE_DOES_NOT_EXIST")
    refused(both.update_registered_model, "renamed", "text", code="RESOURCE_DOES_NOT_EXIST")


def test_tags_of_models(both: Both) -> None:
    both.create_registered_model(NAME, model_tags(a="1", b="2"))
    both.create_registered_model("other", model_tags(a="1"))
    both.set_registered_model_tag(NAME, RegisteredModelTag("a", "changed"))
    both.set_registered_model_tag(NAME, RegisteredModelTag("long", "x" * 4_999))
    both.delete_registered_model_tag(NAME, "b")
    both.delete_registered_model_tag(NAME, "b")
    assert {"a": "changed", "long": "x" * 4_999} == both.get_registered_model(NAME).tags
    assert {"a": "1"} == both.get_registered_model("other").tags
    too_long = RegisteredModelTag("long", "x" * 100_001)
    refused(both.set_registered_model_tag, NAME, too_long, code="INVALID_PARAMETER_VALUE")
    refused(both.set_registered_model_tag, NAME, RegisteredModelTag(None, ""), code="INVALID_PARAMETER_VALUE")
    refused(both.set_registered_model_tag, None, RegisteredModelTag("a", "b"), code="INVALID_PARAMETER_VALUE")
    refused(both.set_registered_model_tag, "nowhere", RegisteredModelTag("a", "b"), code="RESOURCE_DOES_NOT_EXIST")
    refused(both.delete_registered_model_tag, NAME, None, code="INVALID_PARAMETER_VALUE")
    refused(both.delete_registered_model_tag, "nowhere", "a", code="RESOURCE_DOES_NOT_EXIST")


def test_versions(both: Both) -> None:
    both.create_registered_model(NAME)
    made = both.create_model_version(NAME, "a/B", "run", version_tags(a="b"), "http://link", "text", "path")
    assert (1, "READY", "None", "a/B") == (made.version, made.status, made.current_stage, made.source)
    assert 2 == both.create_model_version(name=NAME, source="a/B", run_id=None).version
    assert "new" == both.update_model_version(NAME, 1, "new").description
    assert "a/B" == both.get_model_version_download_uri(NAME, 1)
    refused(both.create_model_version, "nowhere", "a/B", code="RESOURCE_DOES_NOT_EXIST")
    refused(both.create_model_version, None, "a/B", code="INVALID_PARAMETER_VALUE")
    refused(both.create_model_version, NAME, "models:/no/1", code="INTERNAL_ERROR", match="Unable to fetch model")
    both.delete_model_version(NAME, "1")
    for gone in (both.get_model_version, both.delete_model_version, both.get_model_version_download_uri):
        refused(gone, NAME, 1, code="RESOURCE_DOES_NOT_EXIST")
        refused(gone, NAME, "one", code="INVALID_PARAMETER_VALUE")
    refused(both.update_model_version, NAME, 1, "text", code="RESOURCE_DOES_NOT_EXIST")
    assert 3 == both.create_model_version(NAME, "a/B").version


def test_latest_version_is_deleted_and_its_number_is_not_given_again(both: Both) -> None:
    versions(both, count=2)
    both.delete_model_version(NAME, 2)
    assert 3 == both.create_model_version(NAME, "c").version


def test_tags_of_versions(both: Both) -> None:
    versions(both)
    both.set_model_version_tag(NAME, 1, ModelVersionTag("a", "1"))
    both.set_model_version_tag(NAME, "1", ModelVersionTag("a", "2"))
    both.set_model_version_tag(NAME, 2, ModelVersionTag("a", "3"))
    both.delete_model_version_tag(NAME, 2, "a")
    both.delete_model_version_tag(NAME, 2, "a")
    assert [{"a": "2"}, {}, {}] == [both.get_model_version(NAME, number).tags for number in (1, 2, 3)]
    both.delete_model_version(NAME, 3)
    a = ModelVersionTag("a", "b")
    refused(both.set_model_version_tag, NAME, 3, a, code="RESOURCE_DOES_NOT_EXIST")
    refused(both.delete_model_version_tag, NAME, 3, "a", code="RESOURCE_DOES_NOT_EXIST")
    refused(both.set_model_version_tag, NAME, "one", a, code="INVALID_PARAMETER_VALUE")
    refused(both.set_model_version_tag, None, 1, a, code="INVALID_PARAMETER_VALUE")
    refused(both.set_model_version_tag, NAME, 1, ModelVersionTag(None, "b"), code="INVALID_PARAMETER_VALUE")
    refused(both.set_model_version_tag, NAME, 1, ModelVersionTag("a", "x" * 100_001), code="INVALID_PARAMETER_VALUE")
    refused(both.delete_model_version_tag, NAME, 1, None, code="INVALID_PARAMETER_VALUE")


def test_stages(both: Both) -> None:
    versions(both)
    both.transition_model_version_stage(NAME, 1, "sTaGiNg", False)
    both.transition_model_version_stage(NAME, "2", "Production", False)
    both.transition_model_version_stage(name=NAME, version=3, stage="Staging", archive_existing_versions=True)
    stages = [both.get_model_version(NAME, number).current_stage for number in (1, 2, 3)]
    assert ["Archived", "Production", "Staging"] == stages
    assert {1, 2, 3} == {found.version for found in both.get_latest_versions(NAME)}
    assert [2] == [found.version for found in both.get_latest_versions(NAME, ["production"])]
    move = both.transition_model_version_stage
    refused(move, NAME, 1, "nowhere", False, code="INVALID_PARAMETER_VALUE", match="Invalid Model Version stage")
    for inactive in ("Archived", "None"):
        refused(move, NAME, 1, inactive, True, code="INTERNAL_ERROR", match="cannot archive existing")
    both.delete_model_version(NAME, 2)
    refused(both.transition_model_version_stage, NAME, 2, "Staging", False, code="RESOURCE_DOES_NOT_EXIST")


def test_aliases(both: Both) -> None:
    versions(both)
    both.set_registered_model_alias(NAME, "champion", "1")
    both.set_registered_model_alias(NAME, "challenger", "2")
    both.set_registered_model_alias(NAME, "champion", 2)
    assert {"champion": 2, "challenger": 2} == both.get_registered_model(NAME).aliases
    assert 2 == both.get_model_version_by_alias(NAME, "champion").version
    both.delete_registered_model_alias(NAME, "challenger")
    both.delete_registered_model_alias(NAME, "challenger")
    both.delete_model_version(NAME, 2)
    assert {} == both.get_registered_model(NAME).aliases
    refused(both.get_model_version_by_alias, NAME, "champion", code="INVALID_PARAMETER_VALUE", match="not found")
    refused(both.set_registered_model_alias, NAME, "champion", 2, code="RESOURCE_DOES_NOT_EXIST")
    refused(both.set_registered_model_alias, "nowhere", "champion", 1, code="RESOURCE_DOES_NOT_EXIST")
    for bad in ("", None, "v7", "latest", "a b", "x" * 300):
        refused(both.set_registered_model_alias, NAME, bad, 1, code="INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("to", [NAME, "elsewhere", "there already"])
def test_copies(both: Both, to: str) -> None:
    both.create_registered_model(NAME)
    both.create_registered_model("there already")
    both.create_model_version(NAME, "a/B", "run", version_tags(a="b"), "http://link", "text")
    source = both.get_model_version(NAME, 1)
    copied = both.copy_model_version(source, to)
    assert (f"models:/{NAME}/1", {"a": "b"}, "text") == (copied.source, copied.tags, copied.description)
    assert "a/B" == both.get_model_version_download_uri(to, copied.version)
    again = both.copy_model_version(copied, "again")
    assert "a/B" == both.get_model_version_download_uri("again", again.version)


def test_searches(both: Both) -> None:
    for name in ("RM1", "RM2", "rm3", "Über"):
        both.create_registered_model(name, model_tags(kind=name.lower(), all="x"))
        for number in range(3):
            both.create_model_version(name, f"s/{number % 2}", f"run{number}", version_tags(number=str(number)))
    both.delete_model_version("RM1", 2)
    models = {None: 4, "": 4, "name = 'RM1'": 1, "name LIKE 'RM%'": 2, "name ILIKE 'rM%'": 3, "name LIKE '%'": 4}
    models |= {"tag.kind = 'rm1'": 1, "tags.`kind` != 'rm1'": 3, "tag.all = 'x' AND name ILIKE '%3'": 1}
    for text, count in models.items():
        assert count == len(both.search_registered_models(text)), text
    found = {None: 11, "": 11, "name = 'RM1'": 2, "run_id = 'run1'": 3, "run_id IN ('run0', 'run1')": 7}
    found |= {"source_path = 's/0'": 8, "version_number >= 2": 7, "tag.number = '1'": 3, "tag.number LIKE '_'": 11}
    found |= {"name ILIKE 'rm%' AND tag.number LIKE '_'": 8}
    for text, count in found.items():
        assert count == len(both.search_model_versions(text)), text
    for order in (["name DESC"], ["timestamp ASC", "name DESC"], ["last_updated_timestamp DESC"]):
        both.search_registered_models(order_by=order)
    for order in (["version_number DESC", "name ASC"], ["creation_timestamp ASC"], ["last_updated_timestamp DESC"]):
        both.search_model_versions(order_by=order)


@pytest.mark.parametrize("search", ["search_registered_models", "search_model_versions"])
def test_pages_of_searches(both: Both, search: str) -> None:
    for number in range(7):
        versions(both, f"RM{number}", count=1)
    token, found = None, []
    while token or not found:
        page = getattr(both, search)(None, max_results=3, page_token=token)
        found, token = [*found, *page], page.token
    assert 7 == len({one.name for one in found}) == len(found)
    for text in ("run_id IN ()", "run_id IN (1)", "name LIKE", "nonsense = 'a'", "name != unquoted"):
        refused(getattr(both, search), text, code="INVALID_PARAMETER_VALUE")
    refused(getattr(both, search), None, 10**9, code="INVALID_PARAMETER_VALUE", match="max_results")
    refused(getattr(both, search), None, 5, ["nonsense"], code="INVALID_PARAMETER_VALUE")
    refused(getattr(both, search), None, 5, [], "nonsense", code="INVALID_PARAMETER_VALUE", match="token")


def test_prompts(both: Both) -> None:
    both.create_registered_model("model")
    both.create_prompt("greeting", "text", {"language": "en"})
    refused(both.create_prompt, "greeting", code="RESOURCE_ALREADY_EXISTS")
    refused(both.create_prompt, "model", code="RESOURCE_ALREADY_EXISTS", match="already taken by a registered model")
    refused(both.create_registered_model, "greeting", code="RESOURCE_ALREADY_EXISTS", match="taken by a prompt")
    for number in (1, 2, 3):
        made = both.create_prompt_version("greeting", f"Hello {{{{name}}}} {number}", "said", {"n": str(number)})
        assert number == made.version
    both.set_prompt_tag("greeting", "language", "de")
    both.delete_prompt_tag("greeting", "language")
    both.set_prompt_version_tag("greeting", 2, "n", "two")
    both.delete_prompt_version_tag("greeting", 3, "n")
    both.set_prompt_alias("greeting", "production", 2)
    assert "Hello {{name}} 2" == both.get_prompt_version_by_alias("greeting", "production").template
    assert "Hello {{name}} 1" == both.get_prompt_version("greeting", 1).template
    assert ["model"] == [found.name for found in both.search_registered_models()]
    assert ["greeting"] == [found.name for found in both.search_prompts()]
    both.search_prompt_versions("greeting")
    assert "greeting" == both.get_prompt("greeting").name
    assert both.get_prompt("nowhere") is None
    both.delete_prompt_alias("greeting", "production")
    both.delete_prompt_version("greeting", 1)
    both.delete_prompt("greeting")


def test_webhooks(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow asks the name server whether the address is a public one; no test asks any.
    answer = [(2, 1, 6, "", ("93.184.216.34", 0))]
    monkeypatch.setattr("mlflow.utils.validation._resolve_hostname_with_timeout", lambda *_: answer)
    made = both.create_webhook("hook", "https://example.org/a", [CREATED, REGISTERED], "text", "secret", None)
    other = both.create_webhook("other", "https://example.org/b", [REGISTERED], status=WebhookStatus.DISABLED)
    assert "secret" == made.secret == both.get_webhook(made.webhook_id).secret
    assert 2 == len(both.list_webhooks())
    first = both.list_webhooks(max_results=1)
    assert 1 == len(first) == len(both.list_webhooks(1, first.token))
    assert [made.webhook_id] == [hook.webhook_id for hook in both.list_webhooks_by_event(CREATED)]
    assert 2 == len(both.list_webhooks_by_event(REGISTERED, max_results=10))
    changed = both.update_webhook(
        other.webhook_id, "new", "text", "https://example.org/c", [CREATED], "other", WebhookStatus.ACTIVE
    )
    assert ("new", "https://example.org/c", "other") == (changed.name, changed.url, changed.secret)
    both.delete_webhook(made.webhook_id)
    for gone in (both.get_webhook, both.delete_webhook, both.update_webhook):
        refused(gone, made.webhook_id, code="RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("name", ["", " ", "<script>", "a/b", "-a", "a-", "_a", ".a", "x" * 64, "pump rul"])
def test_bad_webhook_name(both: Both, name: str) -> None:
    refused(both.create_webhook, name, "https://example.org", [CREATED], code="INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("url", ["", " ", "example.org/a", "ftp://example.org/a", "http://[bad", "file:///etc/passwd"])
def test_bad_webhook_address(both: Both, url: str) -> None:
    refused(both.create_webhook, "hook", url, [CREATED], code="INVALID_PARAMETER_VALUE")


def test_bad_webhook_events_and_pages(both: Both) -> None:
    for events in ([], (), [1]):
        refused(both.create_webhook, "hook", "https://example.org", events, code="INVALID_PARAMETER_VALUE")
    for number in (-1, 1_001):
        refused(both.list_webhooks, number, code="INVALID_PARAMETER_VALUE")
        refused(both.list_webhooks_by_event, CREATED, number, code="INVALID_PARAMETER_VALUE")


def test_versions_made_at_once_have_numbers_of_their_own(ours: Any) -> None:
    ours.create_registered_model(NAME)

    def create(number: int) -> int | None:
        try:
            return int(ours.create_model_version(NAME, f"s/{number}").version)
        except MlflowException as error:  # MLflow gives up after three tries, and says so
            assert "Giving up" in str(error) or "locked" in str(error)
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [number for number in pool.map(create, range(40)) if number is not None]
    assert sorted(made) == list(range(1, len(made) + 1))
    assert len(made) == len(ours.search_model_versions(f"name = '{NAME}'"))
    assert len(made) >= 8


def test_names_that_are_not_protected_wait_for_no_claim(ours: Any, protected_home: Home) -> None:
    folder = protected_home.path / "mlflow"
    folder.mkdir(exist_ok=True)
    ours.create_registered_model(NAME)
    with (folder / "registry.lock").open("w") as stream, ThreadPoolExecutor(1) as pool:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            assert 1 == pool.submit(ours.create_model_version, NAME, "a/B").result(timeout=20).version
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)
