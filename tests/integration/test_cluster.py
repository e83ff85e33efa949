"""Several nodes: real raylets on this machine, one of which is killed while it trains."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablation.store import StudyStore, TrialState
from tests.integration.studies import command, environment, wait_for, write_study
from tests.integration.undisturbed import assert_equal_to_undisturbed

EPOCHS, SEEDS = 60, [0, 1, 2]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A head and two nodes of one CPU each, without authentication, as many clusters are."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        yield nodes
    finally:
        nodes.shutdown()


def test_a_node_that_dies_costs_nothing_but_time(tmp_path: Path, cluster: object) -> None:
    path = write_study(tmp_path, seeds=SEEDS, epochs=EPOCHS)
    study = StudyStore(tmp_path / "studies" / "tiny")
    _head, doomed, _ = cluster.list_all_nodes()  # type: ignore[attr-defined]
    driver = subprocess.Popen(command("run", path, "--address", cluster.address), cwd=tmp_path,  # type: ignore[attr-defined]
                              env=environment(tmp_path) | {"RAY_AUTH_MODE": "disabled"}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: len(study.planned_keys()) == len(SEEDS) and all(
            study.read_state(key).epoch >= 2 for key in study.planned_keys()), seconds=300)
        cluster.remove_node(doomed, allow_graceful=False)  # type: ignore[attr-defined]
        out, _ = driver.communicate(timeout=300)
    finally:
        driver.kill()
    assert driver.returncode == 0, out
    assert "retry" in out
    attempts = [study.read_state(key).attempt for key in study.planned_keys()]
    assert max(attempts) > 1, out  # of one trial; of more where an overloaded machine loses another process as well
    assert all(study.read_state(key).state is TrialState.FINISHED for key in study.planned_keys())
    assert_equal_to_undisturbed(path, study, Path(environment(tmp_path)["ABLATION_CACHE"]), tmp_path / "undisturbed")
