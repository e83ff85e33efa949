"""MLflow servers: where one is, whether it answers, and starting one over a store. Never imports mlflow."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablation.errors import ServiceUnavailable, SpecError
from ablation.mlflow_views import VIEW_TAG, view_path
from ablation.signals import on_signal
from ablation.store import Store
from trainers.atomic import locked
from trainers.config import suggest

# Before mlflow is imported: a dead server must cost seconds, not the four minutes of its default retries.
DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
            "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet",
            "MLFLOW_LOGGING_LEVEL": "ERROR"}
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
MAX_LINKS = 5

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
DATABRICKS = ("databricks", "databricks-uc", "uc")
ADDRESSES = "http://HOST:5000, sqlite:///FILE or postgresql://USER@HOST/DATABASE"


def default_uri(store: Store) -> str:
    """``MLFLOW_TRACKING_URI``, or a SQLite file in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.root / 'mlflow.db'}"


def tracking_address(store: Store, uri: str | None) -> str:
    """``uri`` or ``default_uri``. Raises ``SpecError`` for what MLflow cannot log to, before a study runs for hours."""
    uri = uri or default_uri(store)
    scheme, colon, rest = uri.partition("://")
    shown = f"--tracking-uri {redact(uri)}"
    if uri in DATABRICKS or scheme in DATABRICKS:
        return uri
    if not colon:
        near = f" (did you mean 'http://{uri}'?)" if re.fullmatch(r"[\w.-]+:\d+", uri) else ""
        raise SpecError(f"{shown}: MLflow no longer logs to folders; give {ADDRESSES}{near}")
    if scheme.split("+")[0] not in SCHEMES:
        raise SpecError(f"{shown}: MLflow cannot log there; give {ADDRESSES}{suggest(scheme, SCHEMES)}")
    if scheme.startswith("sqlite") and not rest.startswith("/"):
        raise SpecError(f"{shown}: a SQLite address has three slashes: sqlite:///{rest}")
    if scheme in ("http", "https"):
        parts = urllib.parse.urlsplit(uri)
        try:
            named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            named = False
        if not named:
            raise SpecError(f"{shown}: names no host and port; give http://HOST:5000")
    return uri


def server_version(uri: str, timeout: float = 5.0) -> str | None:
    """Version of the MLflow server at an http address; None where it asks for a password first.

    Raises ``ServiceUnavailable`` when it does not answer. A password in the address is neither sent nor shown.
    """
    parts = urllib.parse.urlsplit(uri)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    try:
        with urllib.request.urlopen(f"{bare}/version", timeout=timeout) as reply:
            return str(reply.read(100).decode())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return None
        raise ServiceUnavailable(f"MLflow at {redact(uri)} answers {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise ServiceUnavailable(f"MLflow at {redact(uri)} does not answer ({getattr(why, 'strerror', None) or why}); "
                                 "start it, or check --tracking-uri") from error


def require_server(uri: str) -> None:
    """Raises ``ServiceUnavailable`` at once where nobody answers at an http address; MLflow would try for long."""
    if uri.startswith("http"):
        try:
            server_version(uri)
        except ServiceUnavailable as error:
            if not isinstance(error.__cause__, urllib.error.HTTPError):
                raise


def serve(store: Store, uri: str | None, port: int, say: Callable[[str], None]) -> int:
    """Run ``mlflow server`` on loopback until it ends, Ctrl-C or SIGTERM; prints the address once it answers."""
    uri = tracking_address(store, uri)
    if uri.startswith("http"):
        say(f"MLflow already serves at {redact(uri)}")
        return 0
    port = port or _free_port()
    _require_free(port)
    artifacts = (store.root / "mlartifacts").as_uri()
    environment = DEFAULTS | QUIET | dict(os.environ)
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # its password would be in the list of processes
    command = [sys.executable, "-m", "mlflow", "server", "--default-artifact-root", artifacts, "--host", "127.0.0.1",
               "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level=warning"]
    asked = threading.Event()  # an exception could be raised inside a callback of a library, and be lost there

    def ask(number: int, frame: Any) -> None:
        asked.set()

    server: subprocess.Popen[bytes] | None = None
    try:
        with on_signal(ask, signal.SIGINT), on_signal(ask):
            with first_opening(uri):
                # A group of its own: MLflow leaves its workers behind when only it is ended.
                server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
                while server.poll() is None and not _answers(port) and not asked.wait(0.2):
                    pass
            if server.poll() is None and not asked.is_set():
                say(f"MLflow: http://127.0.0.1:{port} (Ctrl-C ends it)")
                for line in _study_links(port):
                    say(line)
            while server.poll() is None and not asked.wait(0.2):
                pass
            return 0 if asked.is_set() or server.returncode == 0 else 6
    finally:
        if server is not None:
            _end_group(server)


def _end_group(server: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _study_links(port: int) -> list[str]:
    """The pages of the latest studies: MLflow's front page has no way to them that opens on charts."""
    asked = json.dumps({"max_results": MAX_LINKS, "order_by": ["last_update_time DESC"]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search", data=asked,
                                     headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            found = json.load(reply).get("experiments", [])
    except (OSError, ValueError):
        return []
    return [f"  {one['name']}: http://127.0.0.1:{port}/{view_path(one['experiment_id'])}" for one in found
            if any(tag["key"].startswith(VIEW_TAG) for tag in one.get("tags", []))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ServiceUnavailable(f"port {port} is taken: choose another with --port, or --port 0 for any") from None


def redact(text: str) -> str:
    """Every address in ``text`` without its user and password."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


@contextmanager
def first_opening(uri: str) -> Iterator[None]:
    """Creating a SQLite schema by two processes at once leaves it half-migrated: one at a time."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    with locked(path.with_name(path.name + ".lock")):
        yield
