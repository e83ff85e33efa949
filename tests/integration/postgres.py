"""A real PostgreSQL on loopback, with a password, that lives as long as a ``with`` block."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SUPERUSER = "ablation"
ACCOUNTS = ("postgres", "nobody")  # whom the server runs as when the tests are root: it refuses to be root
START_SECONDS = 60.0
# A crash of the machine costs nothing here: no waiting for the disk.
SETTINGS = ("fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Yields ``postgresql://user:password@127.0.0.1:port/postgres``; the server's log is ``folder/postgres.log``.

    For MLflow write ``postgresql+psycopg2://``: SQLAlchemy 2.1 takes the plain form for psycopg 3, which is not here.

    Skips the test where Debian's ``postgresql`` is not installed. The data lie outside ``folder``, since pytest's
    folders are closed to the account that the server runs as.
    """
    binaries, account = _binaries(), _account()
    password = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        home = Path(name)
        data, password_file = home / "data", home / "password"
        password_file.write_text(password)
        if account:
            for path in (home, password_file):
                os.chown(path, account["user"], account["group"])
        made = subprocess.run(
            [str(binaries / "initdb"), "--no-sync", "--auth=scram-sha-256", f"--username={SUPERUSER}", "--locale=C",
             "--encoding=UTF8", f"--pwfile={password_file}", f"--pgdata={data}"],
            capture_output=True, text=True, cwd=home, timeout=120, **account)
        assert made.returncode == 0, made.stderr
        port = _free_port()
        settings = [part for setting in (*SETTINGS, f"port={port}") for part in ("-c", setting)]
        with (folder / "postgres.log").open("wb") as log:
            server = subprocess.Popen([str(binaries / "postgres"), "-D", str(data), *settings], cwd=home, stdout=log,
                                      stderr=subprocess.STDOUT, **account)
        uri = f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres"
        try:
            _wait(server, uri, folder / "postgres.log")
            yield uri
        finally:
            server.send_signal(signal.SIGINT)  # ends its clients' connections and leaves
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait(timeout=30)


def query(uri: str, statement: str) -> list[tuple[Any, ...]]:
    """One statement, committed by itself; the rows that it gives."""
    import psycopg2

    connection = psycopg2.connect(uri, connect_timeout=10)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def _binaries() -> Path:
    def version(folder: Path) -> int:
        return int(folder.parent.name) if folder.parent.name.isdigit() else 0

    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    found += [Path(path).resolve().parent for path in (shutil.which("postgres"),) if path]
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def _account() -> dict[str, Any]:
    """Arguments for ``subprocess`` that drop root; none where the tests are not root."""
    if os.getuid() != 0:
        return {}
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip(f"PostgreSQL does not run as root, and none of {', '.join(ACCOUNTS)} exists")


def _wait(server: subprocess.Popen[bytes], uri: str, log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + START_SECONDS
    while True:
        assert server.poll() is None, log.read_text()
        try:
            query(uri, "SELECT 1")
            return
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
