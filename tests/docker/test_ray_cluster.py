"""Head, worker and driver as compose.yaml starts them, with a token, as processes of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ablation.control import stop_driver
from ablation.store import StudyStore, TrialState
from tests.docker.compose import load
from tests.docker.dockerfile import ROOT
from tests.integration.studies import ablation, command, environment, wait_for, write_study

SERVICES = load()["services"]


@dataclass
class Cluster:
    folder: Path
    ports: dict[str, int]

    def translate(self, word: str, agent: str = "head-agent") -> str:
        """Names and ports of the containers -> this machine's."""
        word = word.replace("52365", str(self.ports[agent])).replace("0.0.0.0", "127.0.0.1")
        for port in ("6379", "8265"):
            word = word.replace(port, str(self.ports[port]))
        return word.replace("ray-head", "127.0.0.1")

    def environment(self, service: str, token: str = "token") -> dict[str, str]:
        values: dict[str, Any] = SERVICES[service]["environment"]
        here = {name: self.translate(value) for name, value in values.items() if not name.startswith("MLFLOW")}
        binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return environment(self.folder) | here | {"ABLATION_REPORT": "1"} | {
            "PATH": binaries, "RAY_AUTH_TOKEN_PATH": str(self.folder / token), "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0", "ABLATION_HEARTBEAT_SECONDS": "2", "PYTHONPATH": str(ROOT), "TERM": "dumb"}

    def start(self, service: str, agent: str) -> subprocess.Popen[bytes]:
        command = ["ray", *(self.translate(word, agent) for word in SERVICES[service]["command"])]
        command += ["--node-ip-address=127.0.0.1"]  # a container has an address of its own
        if service == "ray-head":
            command += [f"--ray-client-server-port={self.ports['client']}"]
        with (self.folder / f"{service}.log").open("wb") as log:
            return subprocess.Popen(command, env=self.environment(service), stdout=log, stderr=subprocess.STDOUT,
                                    cwd=self.folder, start_new_session=True)

    def healthy(self, service: str, agent: str) -> bool:
        kind, _, *arguments = SERVICES[service]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run([sys.executable, *(self.translate(word, agent) for word in arguments)],
                              capture_output=True, timeout=30)
        return done.returncode == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # A short path: the sockets of Ray lie in it.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "token").write_text("a" * 64)
        (folder / "wrong").write_text("b" * 64)
        ports = dict(zip(("6379", "8265", "client", "head-agent", "worker-agent"), free_ports(5), strict=True))
        made = Cluster(folder, ports)
        with ended(folder):
            for service, agent in (("ray-head", "head-agent"), ("ray-worker", "worker-agent")):
                process = made.start(service, agent)
                log = folder / f"{service}.log"
                wait_for(lambda s=service, a=agent, p=process: p.poll() is not None or made.healthy(s, a))
                assert process.poll() is None, log.read_text()[-3000:]
            yield made


@contextmanager
def ended(folder: Path) -> Iterator[None]:
    """Ends every process that names ``folder``: Ray's are many, and no others than these do."""
    try:
        yield
    finally:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            ours = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if names(path, str(folder))]
            for process in ours:
                try:
                    os.kill(process, sent)
                except ProcessLookupError:
                    continue
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline and any(names(Path(f"/proc/{number}/cmdline"), str(folder))
                                                      for number in ours):
                time.sleep(0.2)


def names(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes() or f"RAY_TMPDIR={text}".encode() in (
            path.parent / "environ").read_bytes()
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def driver(cluster: Cluster, *arguments: str, token: str = "token") -> subprocess.CompletedProcess[str]:
    script = ROOT / "docker" / SERVICES["driver"]["entrypoint"][0]
    return subprocess.run([str(script), *arguments], env=cluster.environment("driver", token), cwd=cluster.folder,
                          capture_output=True, text=True, timeout=200, start_new_session=True)


def test_a_study_runs_on_the_worker(cluster: Cluster) -> None:
    study = write_study(cluster.folder)
    done = driver(cluster, "run", str(study))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (cluster.folder / "studies" / "tiny" / "report" / "report.html").exists()
    state = driver(cluster, "status", "tiny", "--format", "json")
    assert "FINISHED" in state.stdout


def test_a_wrong_token_is_refused(cluster: Cluster) -> None:
    refused = driver(cluster, "run", "quickstart", token="wrong")
    assert refused.returncode != 0
    assert "authentication" in refused.stderr.lower()
    assert not (cluster.folder / "studies" / "quickstart").exists()


def handed_over(cluster: Cluster, *arguments: str, token: str = "token") -> subprocess.CompletedProcess[str]:
    """``ablation run --detach`` from a machine that is no node of the cluster: the dashboard is all it needs."""
    aside = {name: value for name, value in cluster.environment("driver", token).items() if name != "RAY_ADDRESS"}
    return subprocess.run(command("run", *arguments, "--detach", "--address",
                                  f"http://127.0.0.1:{cluster.ports['8265']}"),
                          env=aside, cwd=cluster.folder, capture_output=True, text=True, timeout=120)


def test_a_study_is_handed_over_and_stopped_from_another_machine(cluster: Cluster,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    done = handed_over(cluster, str(write_study(cluster.folder)), "name=away", "train.epochs=20000")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("raysubmit_")
    study = StudyStore(cluster.folder / "studies" / "away")
    wait_for(lambda: any(study.read_state(key).epoch >= 1 for key in study.planned_keys()))
    assert study.lock_holder() is not None

    monkeypatch.setattr("ablation.control.socket.gethostname", lambda: "another-machine")
    stop_driver(study)
    assert study.lock_holder() is None
    [key] = study.planned_keys()
    assert study.read_state(key).state is TrialState.STOPPED
    assert not study.stop_requested()


def test_a_study_is_not_handed_over_without_the_token(cluster: Cluster) -> None:
    refused = handed_over(cluster, str(write_study(cluster.folder)), "name=never", token="wrong")
    assert refused.returncode == 6
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert "check its token" in line
    assert str(cluster.folder / "wrong") in line
    assert (cluster.folder / "wrong").read_text() not in refused.stderr


@pytest.mark.parametrize(("arguments", "message"), [
    (("--address", "HOST:6379"), "--detach needs the dashboard"),
    (("--address", "http://HOST:8265", "--tracking-uri", "http://anna:secret@mlflow"), "would read its password"),
])
def test_what_cannot_be_handed_over_is_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = ablation(tmp_path, "run", write_study(tmp_path), "--detach", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "secret" not in done.stderr
