"""docker/kuberay against the schemas, with its overlay applied; docker/ray-up.yaml by Ray's own validation."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.docker.dockerfile import ROOT, environment, read_dockerfile, setting

KUBERAY = ROOT / "docker" / "kuberay"
SCHEMAS = Path(__file__).parent / "schemas"
STAGES = read_dockerfile((ROOT / "docker" / "Dockerfile").read_text())
OVERLAYS = sorted(path.name for path in (KUBERAY / "overlays").iterdir())


def errors(schema: str, document: Any) -> list[str]:
    import jsonschema

    rules = jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{schema}.json").read_text()))
    return [f"{error.json_path}: {error.message}" for error in rules.iter_errors(document)]


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of a folder, for the few fields that are used here."""
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert errors("kustomization", settings) == []
    documents: list[dict[str, Any]] = []
    for name in settings["resources"]:
        path = folder / name
        documents += kustomize(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for patch in settings.get("patches", []):
        target = patch["target"]
        found = [document for document in documents if document["kind"] == target["kind"]
                 and document["metadata"]["name"] == target["name"]
                 and document["apiVersion"] == "/".join(filter(None, (target.get("group"), target.get("version"))))]
        assert len(found) == 1, f"no such document: {target}"
        for change in yaml.safe_load((folder / patch["path"]).read_text()):
            _replace(found[0], change)
    for image in settings.get("images", []):
        for container in containers(documents):
            if container["image"] == image["name"]:
                container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    return documents


def _replace(document: Any, change: dict[str, Any]) -> None:
    """One JSON patch (RFC 6902), `replace` only: the place must exist."""
    assert change["op"] == "replace"
    *way, last = [int(part) if part.isdigit() else part for part in change["path"].lstrip("/").split("/")]
    for part in way:
        document = document[part]
    assert last in document if isinstance(document, dict) else last < len(document), change["path"]
    document[last] = change["value"]


def job(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == "RayJob"]
    return found


def pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cluster = job(documents)["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [container for pod in pods(documents) for container in pod["containers"]]


def base() -> list[dict[str, Any]]:
    return copy.deepcopy(kustomize(KUBERAY / "base"))


FOLDERS = ["base", *(f"overlays/{name}" for name in OVERLAYS)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_manifests_follow_the_schemas(folder: str) -> None:
    for document in kustomize(KUBERAY / folder):
        assert errors("kubernetes", document) == []


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_itself_makes_the_same(folder: str) -> None:
    made = subprocess.run(["kubectl", "kustomize", str(KUBERAY / folder)], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    theirs = {document["kind"]: document for document in yaml.safe_load_all(made.stdout)}
    assert theirs == {document["kind"]: document for document in kustomize(KUBERAY / folder)}


@pytest.mark.parametrize(("find", "replace"), [
    ("shutdownAfterJobFinishes", "shutdownAfterJobFinish"), ("authOptions:", "authOption:"),
    ("mode: token", "mode: tokens"),
    ('num-cpus: "0"', "num-cpus: 0"), ("rayStartParams", "rayStartParam"), ("medium: Memory", "medium: memory"),
    ("claimName", "claim"), ("mountPath", "mountpath"), ("httpGet", "httpget"), ("memory: 8Gi", "memory: 8GiB"),
    ("runAsNonRoot: true", "runAsNonRoot: yes please"), ("secretKeyRef", "secretRef"), ("minReplicas", "minReplica"),
])
def test_typing_mistakes_are_found(find: str, replace: str) -> None:
    text = (KUBERAY / "base" / "rayjob.yaml").read_text()
    assert find in text
    assert errors("kubernetes", yaml.safe_load(text)) == []
    assert errors("kubernetes", yaml.safe_load(text.replace(find, replace, 1)))


def test_a_patch_that_hits_nothing_is_found() -> None:
    for way in ("/spec/rayClusterSpec/workerGroupSpecs/1/replicas", "/spec/nothing"):
        with pytest.raises((AssertionError, IndexError)):
            _replace(job(base()), {"op": "replace", "path": way, "value": 2})


def test_the_job_is_the_cluster_that_was_meant() -> None:
    spec = job(base())["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == version("ray")
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    head, worker = containers(base())
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert (head["image"], worker["image"]) == ("ablation:0.1.0", "ablation-worker:0.1.0")
    for container in containers(kustomize(KUBERAY / "overlays" / "cpu")):
        assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_the_overlay_without_gpus_fits_one_small_node() -> None:
    """What docs/kubernetes.md says; kind's own storage class has no ReadWriteMany."""
    made = kustomize(KUBERAY / "overlays" / "cpu")
    (claim,) = [document for document in made if document["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert [document["spec"]["accessModes"] for document in base() if document["kind"] == "PersistentVolumeClaim"] == [
        ["ReadWriteMany"]]
    cluster = job(made)["spec"]["rayClusterSpec"]
    groups = [(1, cluster["headGroupSpec"]), *((group["replicas"], group) for group in cluster["workerGroupSpecs"])]
    requests = [(count, group["template"]["spec"]["containers"][0]["resources"]["requests"]) for count, group in groups]
    assert sum(count * int(request["cpu"]) for count, request in requests) == 5
    assert sum(count * int(request["memory"].removesuffix("Gi")) for count, request in requests) == 12
    assert "5 CPUs and 12 GiB" in (ROOT / "docs" / "kubernetes.md").read_text()


def test_pods_run_as_the_images_user_and_share_the_store() -> None:
    user, group = str(setting(STAGES, "driver", "USER")).split(":")
    claims = {document["metadata"]["name"] for document in base() if document["kind"] == "PersistentVolumeClaim"}
    for pod in pods(base()):
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (int(user), int(group), True)
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        kinds = {volume["name"]: volume for volume in pod["volumes"]}
        assert kinds["store"]["persistentVolumeClaim"]["claimName"] in claims
        assert kinds["shm"]["emptyDir"]["medium"] == "Memory"
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounts["/dev/shm"] == "shm"
        values = {item["name"]: item.get("value", "") for item in container["env"]}
        for name in ("ABLATION_STORE", "ABLATION_CACHE"):
            assert name in environment(STAGES, "worker")
            assert mounts["/" + values[name].split("/")[1]] == "store", "all nodes must see it"


def test_entry_points_are_commands_of_ours() -> None:
    from ablation.cli import app

    program, name, *arguments = job(base())["spec"]["entrypoint"].split()
    assert program == "ablation"
    typer.main.get_command(app).commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
    from ray.scripts.scripts import start

    cluster = job(base())["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        start.make_context("start", [f"--{key}={value}" for key, value in group["rayStartParams"].items()])


def ray_up(text: str) -> dict[str, Any]:
    """Raises what `ray up` would raise."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = prepare_config(yaml.safe_load(text))
    validate_config(config)
    return config


def test_ray_up_is_accepted_by_ray() -> None:
    text = (ROOT / "docker" / "ray-up.yaml").read_text()
    config = ray_up(text)
    assert Path(config["file_mounts"]["~/.ray/auth_token"]).name == "ray_token"
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (line,) = [line for line in commands if "ray start" in line]
        assert "RAY_AUTH_MODE=token" in line
        from ray.scripts.scripts import start

        start.make_context("start", line.split("ray start ")[1].split())
    assert "docker/secrets" in config["rsync_exclude"]
    # It comes with mode 0444, which is for Compose.
    assert config["setup_commands"][0] == "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token"
    for line in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"], text.split("run='")[1]):
        assert "ray stop" in line or {"RAY_AUTH_MODE=token", "ABLATION_CACHE=/shared/cache"} <= set(line.split()), line
    with pytest.raises(Exception, match="setup_comands"):
        ray_up(text.replace("setup_commands", "setup_comands"))


def test_no_machine_of_ours_is_named() -> None:
    for path in (ROOT / "docker").rglob("*"):
        if path.is_file() and not {"secrets", "data", ".env"} & set(path.parts):
            assert not re.search(r"/(root|work|tmp)/|192\.0\.2", path.read_text()), path
