"""The mlflow image's entry point, as compose.yaml starts it: on a real PostgreSQL, with passwords, artifacts in S3."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ablation.synthetic_study import write_study
from tests.docker.compose import load
from tests.docker.dockerfile import ROOT, Image
from tests.docker.s3 import FakeS3, running_s3
from tests.integration.postgres import query, running_postgres

SERVICE = load()["services"]["mlflow"]
BUCKET = load()["services"]["create-bucket"]["command"][0]


@dataclass
class Server:
    uri: str
    secrets: Path
    database: str
    s3: FakeS3

    def get(self, path: str, password: str = "", host: str = "") -> tuple[int, str]:
        request = urllib.request.Request(self.uri + path, headers={"Host": host} if host else {})
        if password:
            request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{password}".encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()


@pytest.fixture(scope="module")
def server(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    secrets = folder / "secrets"
    secrets.mkdir()
    with running_postgres(folder) as database:
        user, _, rest = database.removeprefix("postgresql://").partition(":")
        password, _, place = rest.partition("@")
        (secrets / "postgres_password").write_text(password)  # the script keeps what is there
        subprocess.run(["sh", str(ROOT / "docker" / "make-secrets.sh"), str(secrets)], check=True, capture_output=True)
        image.build("mlflow")
        with running_s3((secrets / "s3_access_key").read_text()) as s3, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            environment = image.environment(image.stages, "mlflow") | SERVICE["environment"] | {
                "SECRETS_DIR": str(secrets), "MLFLOW_S3_ENDPOINT_URL": s3.uri,
                "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://{user}@{place}"}
            made = image.run("mlflow", ["create_bucket.py", BUCKET], **environment)
            assert made.returncode == 0, made.stderr
            with running(image, environment, port, folder / "mlflow.log"):
                yield Server(f"http://127.0.0.1:{port}", secrets, database, s3)


@contextmanager
def running(image: Image, environment: dict[str, str], port: int, log: Path) -> Iterator[None]:
    """compose.yaml's command with a free port, on loopback. Its whole group is ended: MLflow leaves workers behind."""
    command = [word.replace("5000", str(port)).replace("0.0.0.0", "127.0.0.1") for word in SERVICE["command"]]
    entry = image.path("/opt/mlflow/bin/mlflow-server.sh")
    with log.open("wb") as output:
        process = subprocess.Popen([str(entry), *command], env=environment, cwd=image.path("/home/ablation"),
                                   stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.5)
        yield
    finally:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sent)
                process.wait(timeout=15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def test_bucket_is_made_once(image: Image, server: Server) -> None:
    assert server.s3.buckets == {BUCKET}
    before = server.s3.requests.count(f"PUT /{BUCKET}")
    again = image.run("mlflow", ["create_bucket.py", BUCKET], SECRETS_DIR=str(server.secrets),
                      MLFLOW_S3_ENDPOINT_URL=server.s3.uri)
    assert again.returncode == 0, again.stderr
    assert server.s3.requests.count(f"PUT /{BUCKET}") == before == 1


def test_who_may_come_in(server: Server) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=5"
    assert server.get("/health") == (200, "OK")
    assert server.get(search)[0] == 401
    assert server.get(search, "password1234")[0] == 401
    assert server.get(search, server.secret("mlflow_admin_password"))[0] == 200
    port = server.uri.rsplit(":", 1)[1]
    assert server.get(search, server.secret("mlflow_admin_password"), host=f"mlflow:{port}")[0] == 200
    assert server.get(search, server.secret("mlflow_admin_password"), host="evil.example")[0] == 403


def test_users_live_in_the_database(image: Image, server: Server) -> None:
    assert query(server.database, "SELECT username, is_admin FROM users WHERE is_admin") == [("admin", True)]
    assert not list(image.path("/home/ablation").glob("*.db"))


def test_a_study_reaches_it_with_the_drivers_credentials(server: Server, tmp_path: Path) -> None:
    """As the driver does it: user and password from ~/.mlflow/credentials, files through the server into S3."""
    write_study(tmp_path / "studies" / "demo", methods=["simclr"], backbones=["resnet18"], imbalance=[0.05], seeds=[0])
    (tmp_path / ".mlflow").mkdir()
    command = [sys.executable, "-m", "ablation.cli", "sync", "demo", "--store", str(tmp_path / "studies"),
               "--tracking-uri", server.uri]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    driver = load()["services"]["driver"]["environment"]
    environment |= {name: value for name, value in driver.items() if "MULTIPART" in name}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    refused = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 6, refused.stderr
    (tmp_path / ".mlflow" / "credentials").write_text(server.secret("mlflow_credentials"))
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert query(server.database, "SELECT count(*) FROM runs")[0][0] == 2  # the study and its trial
    configs = [key for key in server.s3.objects if key.endswith("config.json")]
    assert len(configs) == 1
    code = ("import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]); c = mlflow.MlflowClient()\n"
            "run = c.search_runs([c.get_experiment_by_name('demo').experiment_id], \"tags.method = 'simclr'\")[0]\n"
            "print(mlflow.artifacts.load_dict(run.info.artifact_uri + '/config.json')['method'])")
    back = subprocess.run([sys.executable, "-c", code, server.uri], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60, env=environment | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert not [line for line in server.s3.requests if "Amz-Signature" in line]
    assert back.stdout.strip() == "simclr", back.stderr[-2000:]


def test_a_user_of_its_own_is_enough_for_the_driver(server: Server, tmp_path: Path) -> None:
    """As docs/deployment.md says: made by the administrator on MLflow's page, and no administrator itself."""
    admin = server.secret("mlflow_admin_password")
    status, page = server.get("/signup", admin)
    assert status == 200
    assert "/api/2.0/mlflow/users/create" in page
    request = urllib.request.Request(f"{server.uri}/api/2.0/mlflow/users/create", method="POST", data=json.dumps(
        {"username": "driver", "password": "a password of its own"}).encode())
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{admin}".encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.status == 200
    write_study(tmp_path / "studies" / "own", methods=["simclr"], backbones=["resnet18"], imbalance=[0.05], seeds=[0])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    driver = load()["services"]["driver"]["environment"]
    environment |= {name: value for name, value in driver.items() if "MULTIPART" in name}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        server.secret("mlflow_credentials").replace("= admin", "= driver").replace(admin, "a password of its own"))
    done = subprocess.run([sys.executable, "-m", "ablation.cli", "sync", "own", "--store", str(tmp_path / "studies"),
                           "--tracking-uri", server.uri], env=environment, cwd=tmp_path, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    assert dict(query(server.database, "SELECT username, is_admin FROM users")) == {"admin": True, "driver": False}
    runs = ("SELECT count(*) FROM runs JOIN experiments ON runs.experiment_id = experiments.experiment_id "
            "WHERE experiments.name = 'own'")
    assert query(server.database, runs)[0][0] == 2


def test_no_password_is_shown(image: Image, server: Server) -> None:
    """Neither in the list of processes nor in the log, nor in what S3 is sent."""
    hidden = [server.secret(name) for name in ("postgres_password", "mlflow_admin_password", "mlflow_secret_key",
                                               "s3_secret_key")]
    lines = [line.replace(b"\0", b" ").decode(errors="replace") for line in processes()]
    assert [line for line in lines if f"{image.root}/" in line and "mlflow server " in line], "this very server's"
    text = "\n".join(lines) + (server.secrets.parent / "mlflow.log").read_text() + "\n".join(server.s3.requests)
    assert not [secret for secret in hidden if secret in text]


def processes() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:  # it has ended since
            continue
    return found


def test_a_missing_secret_stops_it(image: Image, tmp_path: Path) -> None:
    image.build("mlflow")
    done = image.run("mlflow", ["mlflow-server.sh"], SECRETS_DIR=str(tmp_path), MLFLOW_BACKEND_STORE_URI="sqlite://")
    assert done.returncode != 0
    assert "postgres_password" in done.stderr
