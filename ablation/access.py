"""May this driver reach a Ray cluster: is somebody there, and does the cluster know who asks. Without Ray itself."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from ablation.errors import ServiceUnavailable, SpecError

CONNECT_SECONDS = 10.0


def cluster_address(address: str | None) -> str | None:
    """The cluster that a driver will join, of ``--address`` or ``RAY_ADDRESS``; None for a local one.

    Raises ``SpecError`` for what is no address, ``ServiceUnavailable`` where nobody answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        return None
    if address.startswith("http"):
        raise SpecError(f"--address {address}: this is the dashboard, which takes a study with --detach; without "
                        "it name the cluster itself, e.g. HOST:6379")
    if address != "auto":
        require_answer(address)
    return address


def require_answer(address: str) -> None:
    """Ray itself would try a dead address for minutes."""
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SpecError(f"--address {address}: expected HOST:PORT, e.g. 10.0.0.5:6379, or auto, or local")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ServiceUnavailable(f"Ray at {address} cannot be used: {error.strerror or error}; check the address, "
                                 "or leave --address out for a local cluster") from error


def refusal(address: str, error: Exception) -> str:
    """One line about a cluster that answers on its port and still cannot be used, with what to check."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    if line.startswith("Version mismatch"):  # the numbers are on the lines below
        return f"Ray at {address} cannot be used: {' '.join(str(error).split())}; install the same version on both"
    if address == "local":
        return f"Ray at local cannot be used: {line}"
    token = os.environ.get("RAY_AUTH_TOKEN_PATH") or ("RAY_AUTH_TOKEN" if "RAY_AUTH_TOKEN" in os.environ else "none")
    return (f"Ray at {address} cannot be used: {line}; something answers there, so check its token (a missing or wrong "
            f"one is a 401; here RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', 'unset')}, token: {token}) and its "
            "version with: ablation doctor --address ...")


def require_token() -> None:
    """Nobody else may join the local cluster. Ray's own token file would be readable by all users; ours is not.

    Where somebody has imported Ray before, it has read its settings, and makes a token by its own rules.
    """
    if "ray" in sys.modules:
        return
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        folder = tempfile.mkdtemp(prefix="ablation-ray-")  # mode 0700
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "token"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def dashboard_version(address: str) -> str | None:
    """Version of the Ray behind a dashboard, ``http://HOST:8265``; None where it asks for a token first.

    Raises ``ServiceUnavailable`` when nobody or something else answers there.
    """
    require_answer(address)
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=CONNECT_SECONDS) as reply:
            return str(json.loads(reply.read(10_000))["ray_version"])
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return None
        raise ServiceUnavailable(f"{address} answers {error.code} {error.reason}: it is no Ray dashboard") from error
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        raise ServiceUnavailable(f"{address} answers, but is no Ray dashboard ({type(error).__name__})") from error
