"""docker/compose.yaml: against Compose's schema, against itself, against the Dockerfile, and by the real parsers."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from tests.docker.compose import DOCKER, load, secret_names
from tests.docker.dockerfile import ROOT, environment, read_dockerfile, setting

COMPOSE = load()
SERVICES: dict[str, Any] = COMPOSE["services"]
STAGES = read_dockerfile((DOCKER / "Dockerfile").read_text())
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text())
OURS = [name for name, service in SERVICES.items() if "build" in service]
ONE_SHOTS = {"create-bucket", "driver"}
PAGES = ("docs/deployment.md", "README.md", "docker/compose.yaml", "docker/compose.gpu.yaml")


def errors(document: dict[str, Any]) -> list[str]:
    import jsonschema

    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=" ".join)
def test_follows_the_schema(files: tuple[str, ...]) -> None:
    assert errors(load(*files)) == []


def test_the_schema_finds_typing_mistakes() -> None:
    for path, name in ((("services", "mlflow"), "port"), (("services", "mlflow", "healthcheck"), "intervall"),
                       (("secrets", "ray_token"), "fil"), ((), "service")):
        broken = copy.deepcopy(COMPOSE)
        place = broken
        for key in path:
            place = place[key]
        place[name] = "x"
        assert errors(broken), name
    broken = copy.deepcopy(COMPOSE)
    broken["services"]["mlflow"]["depends_on"]["postgres"]["condition"] = "healthy"
    assert errors(broken)


def test_what_is_named_exists() -> None:
    for name, service in SERVICES.items():
        assert set(secret_names(service)) <= set(COMPOSE["secrets"]), name
        assert set(service["networks"]) <= set(COMPOSE["networks"]), name
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES
            finishes = how["condition"] == "service_completed_successfully"
            assert finishes == (other in ONE_SHOTS), other
            assert finishes or "test" in SERVICES[other]["healthcheck"], f"{other} is waited for, but has no check"
            assert set(service["networks"]) & set(SERVICES[other]["networks"]) or finishes
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith(("/", ".")) or source in COMPOSE["volumes"], volume
    used = {secret for service in SERVICES.values() for secret in secret_names(service)}
    assert used == set(COMPOSE["secrets"])
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= mounted


def test_images_are_pinned_and_built_from_a_stage() -> None:
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"]), f"{name}: {service['image']}"
    stages = [stage.name for stage in STAGES]
    for name in OURS:
        build = SERVICES[name]["build"]
        assert build["target"] in stages
        assert (DOCKER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
    version = (ROOT / "pyproject.toml").read_text().split('version = "')[1].split('"')[0]
    assert {SERVICES[name]["image"].split(":")[1] for name in OURS} == {version}


def test_only_loopback_can_reach_it() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "network_mode" not in service
        assert not service.get("privileged")
    assert COMPOSE["networks"]["storage"]["internal"] is True
    # Whoever has Ray's token runs code on its nodes, the driver's too: none of them reaches the database or the
    # artifacts but through MLflow, and only the driver holds a password for that.
    assert SERVICES["ray-head"]["networks"] == SERVICES["ray-worker"]["networks"] == ["cluster"]
    assert "storage" not in SERVICES["driver"]["networks"]
    assert {name for name, service in SERVICES.items() if "mlflow_credentials" in secret_names(service)} == {"driver"}
    for name in OURS:
        assert SERVICES[name]["cap_drop"] == ["ALL"], name
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"], name


def test_no_secret_is_written_down() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY", key):
                assert key.endswith(("_FILE", "_PATH")), f"{name}: {key}"
                assert value in secret_names(service).values(), f"{name}: {key} is not mounted"
            assert not re.search(r"://[^/@]*:[^/@]*@", value), f"{name}: {key} holds a password"
        assert not re.search(r"password|token=|secret", " ".join(service.get("command", [])), re.IGNORECASE)
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")


def test_every_ray_node_needs_the_token() -> None:
    for name in ("ray-head", "ray-worker", "driver"):
        assert SERVICES[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert SERVICES[name]["environment"]["RAY_AUTH_TOKEN_PATH"] == secret_names(SERVICES[name])["ray_token"]


def test_clients_names_for_mlflow_are_allowed() -> None:
    (allowed,) = [word.split("=")[1].split(",") for word in SERVICES["mlflow"]["command"]
                  if word.startswith("--allowed-hosts=")]
    address = SERVICES["driver"]["environment"]["MLFLOW_TRACKING_URI"]
    assert address.removeprefix("http://") in allowed
    published = SERVICES["mlflow"]["ports"][0].split(":")[1]
    assert {f"localhost:{published}", f"127.0.0.1:{published}"} <= set(allowed)
    assert not [host for host in allowed if "*" in host]


def test_names_and_ports_agree() -> None:
    head = dict(word.lstrip("-").split("=", 1) for word in SERVICES["ray-head"]["command"] if "=" in word)
    assert SERVICES["driver"]["environment"]["RAY_ADDRESS"] == f"ray-head:{head['port']}"
    assert f"--address=ray-head:{head['port']}" in SERVICES["ray-worker"]["command"]
    assert SERVICES["ray-head"]["ports"] == [f"127.0.0.1:{head['dashboard-port']}:{head['dashboard-port']}"]
    agent = head["dashboard-agent-listen-port"]
    for name in ("ray-head", "ray-worker"):
        assert f"--dashboard-agent-listen-port={agent}" in SERVICES[name]["command"]
        assert f":{agent}/" in SERVICES[name]["healthcheck"]["test"][-1]
    database = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    postgres = SERVICES["postgres"]["environment"]
    assert database == f"postgresql+psycopg2://{postgres['POSTGRES_USER']}@postgres:5432/{postgres['POSTGRES_DB']}"
    bucket = SERVICES["create-bucket"]["command"][0]
    assert f"--artifacts-destination=s3://{bucket}" in SERVICES["mlflow"]["command"]
    assert SERVICES["mlflow"]["environment"]["MLFLOW_S3_ENDPOINT_URL"] == "http://rustfs:9000"
    assert SERVICES["rustfs"]["environment"]["RUSTFS_ADDRESS"] == ":9000"
    stage = {key: value for key, value in environment(STAGES, "driver").items() if key.startswith("ABLATION_")}
    assert stage == {"ABLATION_STORE": "/studies", "ABLATION_CACHE": "/cache"}
    for name in ("ray-head", "ray-worker", "driver"):
        assert {"studies:/studies", "cache:/cache"} <= set(SERVICES[name]["volumes"])


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # mlflow's, at its own import
def test_the_command_lines_are_understood() -> None:
    from mlflow.cli import server
    from ray.scripts.scripts import start

    assert SERVICES["ray-head"]["entrypoint"] == ["ray"]
    assert setting(STAGES, "worker", "ENTRYPOINT") == '["ray"]'
    for name in ("ray-head", "ray-worker"):
        word, *options = SERVICES[name]["command"]
        assert word == "start"
        parsed = start.make_context("start", options).params
        assert parsed["block"] is True
        with pytest.raises(click.NoSuchOption):
            start.make_context("start", [*options, "--no-such-option=1"])
    parsed = server.make_context("server", ["--app-name", "basic-auth", *SERVICES["mlflow"]["command"]]).params
    assert parsed["serve_artifacts"] is True
    for service in (*OURS, "driver"):
        entry = SERVICES[service].get("entrypoint")
        if entry and entry[0].endswith((".sh", ".py")):
            script = DOCKER / entry[0]
            assert script.stat().st_mode & stat.S_IXUSR, script
            assert f"docker/{entry[0]}" in (DOCKER / "Dockerfile").read_text()


def test_health_checks_are_programs_that_the_images_have() -> None:
    for name, service in SERVICES.items():
        check = service["healthcheck"]
        if name in ONE_SHOTS:
            assert check == {"disable": True}
            continue
        kind, program, *arguments = check["test"]
        assert kind == "CMD"
        if name in OURS:
            assert program == "python"
            compile(arguments[-1], name, "exec")
        assert name in OURS or program == {"postgres": "pg_isready", "rustfs": "curl"}[name]


def test_gpu_overlay_reserves_gpus_for_the_workers_only() -> None:
    both = load("compose.yaml", "compose.gpu.yaml")["services"]
    (device,) = both["ray-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert not [name for name, service in both.items() if "deploy" in service and name != "ray-worker"]
    assert both["ray-worker"]["scale"] == 1


def test_settings_are_in_files_that_every_command_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """`up --scale` would be forgotten by the next command; what the shell holds, by the next shell."""
    monkeypatch.setenv("ABLATION_WORKERS", "3")
    monkeypatch.setenv("ABLATION_WORKER_CPUS", "4")
    monkeypatch.setenv("ABLATION_DATA", "/pictures")
    worker = load()["services"]["ray-worker"]
    assert (worker["scale"], worker["cpus"]) == (3, 4)
    assert "--num-cpus=4" in worker["command"]
    assert "/pictures:/data:ro" in worker["volumes"]
    text = (DOCKER / ".env.example").read_text()
    example = dict(re.findall(r"^#(\w+)=(.+)$", text, flags=re.MULTILINE))
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (DOCKER / "compose.yaml").read_text()))
    assert set(used) | {"COMPOSE_FILE"} == set(example)
    assert {name: example[name] for name in ("ABLATION_WORKERS", "ABLATION_WORKER_CPUS")} == {
        name: used[name] for name in ("ABLATION_WORKERS", "ABLATION_WORKER_CPUS")}
    assert example["ABLATION_DATA"].startswith("/")
    assert all((DOCKER / name).is_file() for name in example["COMPOSE_FILE"].split(":"))
    assert not [line for line in text.splitlines() if line and not line.startswith("#")], "as it is, it changes nothing"


def make_secrets(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(DOCKER / "make-secrets.sh"), str(folder)], capture_output=True, text=True,
                          timeout=30)


def test_secrets_are_made_once_and_all_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = make_secrets(folder)
    assert first.returncode == 0, first.stderr
    wanted = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert {path.name for path in folder.iterdir()} == wanted
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(set(before.values())) == len(before)
    plain = [text for name, text in before.items() if name != "mlflow_credentials"]
    assert all(len(text) >= 20 and text == text.strip() for text in plain)
    assert before["mlflow_admin_password"] in before["mlflow_credentials"]
    assert not [text for name, text in before.items() if text in first.stdout + first.stderr]
    (folder / "s3_access_key").unlink()
    assert make_secrets(folder).returncode == 0
    after = {path.name: path.read_text() for path in folder.iterdir()}
    assert after.pop("s3_access_key") != before.pop("s3_access_key")
    assert after == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try it as other users")
def test_the_containers_user_can_read_secrets_and_neighbours_cannot(tmp_path: Path) -> None:
    """A bind mount shows the file itself, as a second name of it does; the way through the folder stays closed."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="secrets-") as name:
        os.chmod(name, 0o755)
        folder, mounted = Path(name) / "secrets", Path(name) / "mounted"
        assert make_secrets(folder).returncode == 0
        mounted.mkdir(mode=0o755)
        os.link(folder / "ray_token", mounted / "ray_token")
        user = int(str(setting(STAGES, "driver", "USER")).split(":")[0])

        def read(path: Path) -> int:
            return subprocess.run(["cat", str(path)], user=user, group=user, extra_groups=[], cwd="/",
                                  capture_output=True).returncode

        assert read(mounted / "ray_token") == 0
        assert read(folder / "ray_token") != 0


def commands_in(page: str) -> list[list[str]]:
    """Every ``docker compose …`` line of a page, without comment signs."""
    lines = re.findall(r"^[#\s]*(?:sh docker/make-secrets\.sh && )?(docker compose .+)$", (ROOT / page).read_text(),
                       flags=re.MULTILINE)
    return [shlex.split(line.replace("`", ""), comments=True) for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_show_commands_that_exist(page: str) -> None:
    """Files, services and what is handed to `ablation`, by its own parser."""
    from ablation.cli import app

    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands = commands_in(page)
    assert commands
    for words in commands:
        files = [words[at + 1] for at, word in enumerate(words) if word == "-f"]
        assert files[0] == "docker/compose.yaml"
        assert all((ROOT / file).is_file() for file in files)
        rest = words[2 + 2 * len(files):]
        assert rest[0] in {"up", "run", "ps", "logs", "down", "cp", "exec"}, rest
        assert "--scale" not in rest
        if rest[0] == "run":
            assert rest[1:4] == ["--rm", "--no-deps", "driver"], "no other service is touched"
            name, *arguments = rest[4:]
            known[name].make_context(name, list(arguments))
    for shown in re.findall(r"(?<!docker )\brun --rm [^\n`]*", (ROOT / page).read_text()):
        assert shown.startswith("run --rm --no-deps driver "), shown


def test_the_tests_use_the_python_that_has_ray() -> None:
    assert (Path(sys.executable).parent / "ray").exists()
