"""Submission: the signed directory becomes a candidate in MLflow, with a run that shows how it was made.

The candidate is a LoggedModel without an `MLmodel` file: MLflow gives such a directory back byte for byte, and its
loaders, which would execute code from it, find nothing to load. Nothing is registered yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from mlflow.utils.mlflow_tags import MLFLOW_USER

from twinseal.errors import RegistryError
from twinseal.files import FileRecord, inventory, tree_digest
from twinseal.registry.describe import candidate_links, with_state
from twinseal.registry.run import RunRecord, create_run, log_metrics
from twinseal.registry.store import SERVED, Store, check_model_id, registry_errors

log = structlog.get_logger()

NOTE = "mlflow.note.content"  # MLflow's UI renders it as Markdown
BUNDLE = "twinseal.bundle_sha256"
RELEASES = "twinseal.releases"  # the versions as which the same files were registered, for people
STATE = "twinseal.state"
WAITS, REJECTED, REGISTERED, REPLACED = "waits", "rejected", "registered", "replaced"
OPEN = (WAITS, REJECTED)  # reviewers can still decide
RECORD = ".dsse.json"
MODEL_TYPE = "twinseal-candidate"
_NOTE_LENGTH = 8000  # MLflow's own limit of a tag's value
_DIGITS = 10  # of a version


def submit(
    store: Store,
    bundle: Path,
    *,
    model: str,
    version: int,
    description_markdown: str = "",
    run: RunRecord,
    experiment: str = "",
) -> str:
    """Put the signed directory at `bundle` into MLflow as the candidate for a release of `model`; its id.

    The same bytes twice are one candidate: when MLflow still has it, byte for byte, its id is returned, its description
    renewed, and its run is called a renewal if it was registered before. Tags say where to look; the comparison of
    bytes decides.

    Args:
        store: Where to.
        bundle: The signed directory: model, signature, evidence.
        model: Name of the model.
        version: Of the release that it is to become.
        description_markdown: For the reviewer, from `describe.describe`; links to the run are added below it. "" for
            a server that reviews: it describes the candidate and names its run, so neither is changed here.
        run: How it was made, for people.
        experiment: Name of MLflow's experiment; by default the model's.

    Raises:
        RegistryError: MLflow could not be reached or refused; a report is missing. A candidate that was begun stays
            marked as failed and is never offered.
        DigestMismatchError: The directory holds a link, or a name that is not plain.
    """
    records = inventory(bundle)
    if not records or any(record.path.endswith("MLmodel") for record in records):
        raise RegistryError(f"{bundle}: expected signed files and no MLmodel, got {[r.path for r in records]}")
    digest = tree_digest(records)
    experiment = store.experiment(experiment or model)
    model_id = _find_same_candidate(store, experiment, digest, bundle)
    if model_id is None:
        run_id = create_run(store, experiment, run_name(model, version), run)
        tags = {BUNDLE: digest} | ({MLFLOW_USER: run.origin.user} if run.origin.user else {})
        about = {"experiment_id": experiment, "source_run_id": run_id, "name": f"{model}-candidate", "tags": tags}
        model_id = _create_candidate(store, bundle, about)
        log_metrics(store, run_id, model_id, run)
        log.info("candidate.submitted", model=model, model_id=model_id, files=len(records))
    else:
        log.info("candidate.known", model=model, model_id=model_id)
    if not description_markdown:
        return model_id
    name_run(store, model_id, model, version)
    stages = [Path(record.path).name.removesuffix(RECORD) for record in records if record.path.endswith(RECORD)]
    describe_candidate(store, model_id, description_markdown, state=WAITS, stages=stages)
    return model_id


def describe_candidate(store: Store, model_id: str, markdown: str, *, state: str, stages: Iterable[str] = ()) -> None:
    """Show `markdown`, and links to the evidence of `stages` below it, as the description of a candidate and its run.

    Raises:
        RegistryError: MLflow has no such candidate, could not be reached, or refused.
    """
    check_model_id(model_id)
    with registry_errors(f"candidate {model_id}"):
        found = store.client.get_logged_model(model_id)
        run = found.source_run_id or ""
        tail = candidate_links(str(found.experiment_id), run, model_id, stages)
        note = markdown[: _NOTE_LENGTH - len(tail) - 2] + "\n\n" + tail
        _set_page(store, found, note, state)


def show_state(store: Store, model_id: str, state: str, line: str) -> None:
    """Say on the page of a candidate, and of its run, where it stands now; the rest of the page stays.

    A page that cannot be changed is logged and left as it is: it is for people, and nothing waits for it.

    Args:
        store: Where it is.
        model_id: The candidate.
        state: One word, a tag to search by.
        line: The same in words.
    """
    with suppress(RegistryError), registry_errors(f"candidate {model_id}"):  # which logs it
        check_model_id(model_id)
        found = store.client.get_logged_model(model_id)
        note = with_state(found.tags.get(NOTE, ""), line, waits=state in OPEN)[:_NOTE_LENGTH]
        _set_page(store, found, note, state)


def show_submitted(store: Store, model_id: str, version: int) -> None:
    """Say of the other candidates of the same model that wait that this one replaces them; as `show_state`.

    One that was registered before, and was submitted again since, is said to be what it was: registered.
    """
    for other in _others(store, model_id, *OPEN):
        before = _registered(store, other)
        if before:
            show_state(store, other, REGISTERED, f"release {before[-1]}")
        else:
            show_state(store, other, REPLACED, f"replaced by another candidate for release {version}")


def show_registered(store: Store, model_id: str, model: str, version: int) -> None:
    """Say of a candidate that it is release `version` now, and of all others that it replaced them; as `show_state`."""
    with suppress(RegistryError):
        versions = [*(one for one in _registered(store, model_id) if one != version), version]
        with registry_errors(f"candidate {model_id}"):
            store.client.set_logged_model_tags(model_id, {RELEASES: " ".join(map(str, versions[-2:]))})
        _name_run(store, model_id, run_name(model, version, versions[:-1]))
    for other in _others(store, model_id, REGISTERED, *OPEN):
        show_state(store, other, REPLACED, f"replaced by release {version}")


def name_run(store: Store, model_id: str, model: str, version: int) -> None:
    """Call the candidate's run by the release that it is to become; a renewal if it was registered before."""
    _name_run(store, model_id, run_name(model, version, _registered(store, model_id)))


def run_name(model: str, version: int, before: Sequence[int] = ()) -> str:
    """What the run of a candidate is called that was registered `before` as other versions.

    >>> run_name("pump-rul", 3), run_name("pump-rul", 4, [2, 3])
    ('pump-rul release 3', 'pump-rul release 4, renewal of 3')
    """
    others = [one for one in before if one != version]
    return f"{model} release {version}" + (f", renewal of {others[-1]}" if others else "")


def _set_page(store: Store, candidate: Any, note: str, state: str) -> None:
    store.client.set_logged_model_tags(candidate.model_id, {NOTE: note, STATE: state})
    if candidate.source_run_id:
        store.client.set_tag(candidate.source_run_id, NOTE, note)
        store.client.set_tag(candidate.source_run_id, STATE, state)


def _registered(store: Store, model_id: str) -> list[int]:
    """As which versions MLflow says that a candidate was registered, for people; the last two at most."""
    with suppress(RegistryError), registry_errors(f"candidate {model_id}"):
        words = store.client.get_logged_model(model_id).tags.get(RELEASES, "").split()
        return [int(word) for word in words if word.isdecimal() and len(word) <= _DIGITS][-2:]
    return []


def _name_run(store: Store, model_id: str, name: str) -> None:
    with suppress(RegistryError), registry_errors(f"candidate {model_id}"):
        run = store.client.get_logged_model(model_id).source_run_id
        if run:
            store.client.update_run(run, name=name)


def _others(store: Store, model_id: str, *states: str) -> list[str]:
    """The other candidates of the same model that are in one of `states`, as MLflow says; none if it says nothing."""
    with suppress(RegistryError), registry_errors("candidates"):
        places = _experiments(store, str(store.client.get_logged_model(model_id).experiment_id))
        asked = [f"tags.`{STATE}` = '{state}'" for state in states]
        found = [item for words in asked for item in store.client.search_logged_models(places, filter_string=words)]
        return [str(item.model_id) for item in found if str(item.model_id) != model_id]
    return []


def _experiments(store: Store, experiment: str) -> list[str]:
    """The experiments of the model that `experiment` is of: what was made beside a server is in one of its own."""
    name = str(store.client.get_experiment(experiment).name).removesuffix(SERVED)
    found = [store.client.get_experiment_by_name(each) for each in (name, name + SERVED)]
    return [str(item.experiment_id) for item in found if item is not None]


def _find_same_candidate(store: Store, experiment: str, digest: str, bundle: Path) -> str | None:
    with registry_errors("candidates"):
        found = store.client.search_logged_models([experiment], filter_string=f"tags.`{BUNDLE}` = '{digest}'")
        ready = [str(item.model_id) for item in found if str(item.status) == "READY"]
    return next((model_id for model_id in ready if has_same_files(store, model_id, inventory(bundle))), None)


def has_same_files(store: Store, model_id: str, records: Sequence[FileRecord]) -> bool:
    """Whether MLflow gives back every file of `records` for a candidate, byte for byte; the bytes are not kept."""
    check_model_id(model_id)
    try:
        with registry_errors(f"candidate {model_id}"):
            place = store.client.get_logged_model(model_id).artifact_location
            there = store.artifacts_at(place, f"candidate {model_id}")
            return all(there.sha256(record.path, record.length) == record.sha256 for record in records)
    except RegistryError:
        return False


def _create_candidate(store: Store, bundle: Path, about: dict[str, Any]) -> str:
    with registry_errors(str(about["name"])):
        made = store.client.create_logged_model(model_type=MODEL_TYPE, **about)
        model_id = str(made.model_id)
        check_model_id(model_id)
        try:
            there = store.artifacts_at(made.artifact_location, f"candidate {model_id}")
            for record in inventory(bundle):
                there.write(bundle / record.path, record.path)
        except BaseException:
            store.client.finalize_logged_model(model_id, "FAILED")
            raise
        store.client.finalize_logged_model(model_id, "READY")
    return model_id
