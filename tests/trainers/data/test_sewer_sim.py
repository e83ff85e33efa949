"""The simulated sewer: Sewer-ML layout, the same pictures everywhere, and not solvable from intensities."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainers.config import ConfigError
from trainers.data import sewer_sim
from trainers.data.index import DataError
from trainers.data.sewer_defects import CODES, generator, picture, scene
from trainers.data.sewer_ml import COLUMNS, SewerML
from trainers.data.sewer_sim import SewerSim, simulate

REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = SewerSim.Options(num_train=30, num_val=10, num_test=4, size=32)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "images").iterdir())


def test_pictures_depend_on_seed_and_index_only() -> None:
    one = picture(0, 5, 48, 0.5)
    picture(0, 6, 48, 0.5)
    assert one.shape == (48, 48, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, picture(0, 5, 48, 0.5))
    assert not np.array_equal(one, picture(1, 5, 48, 0.5))
    assert not np.array_equal(one, picture(0, 6, 48, 0.5))


def test_every_defect_is_drawn_and_changes_the_picture() -> None:
    scenes = Counter(code for index in range(400) for code in scene(generator(0, index), 0.5).codes)
    assert set(scenes) == set(CODES)
    assert min(scenes.values()) > 10
    for code in CODES:
        index = next(i for i in range(400) if scene(generator(0, i), 0.999).codes == (code,))
        pixels = picture(0, index, 64, 0.999)
        assert 5 < pixels.mean() < 250
        assert pixels.std() > 5


def test_layout_is_sewer_mls_and_its_reader_reads_it(tmp_path: Path) -> None:
    simulate(tmp_path / "sim", SMALL, report=lambda line: None)
    with (tmp_path / "sim" / "SewerML_Train.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        assert row["Defect"] == str(int(any(row[code] == "1" for code in CODES)))
        assert row["ND"] == str(int(row["VA"] == "0" and row["Defect"] == "0"))
    assert (tmp_path / "sim" / "SewerML_Test.csv").read_text().splitlines()[:2] == ["Filename", "00000041.png"]
    index = SewerML(str(tmp_path / "sim"), SewerML.Options()).index
    assert [len(index.where(split)) for split in ("train", "val", "test")] == [30, 10, 4]
    assert names(tmp_path / "sim") == sorted(index.ids.tolist())
    assert Image.open(tmp_path / "sim" / "images" / "00000001.png").format == "PNG"


def test_construction_writes_tables_only_and_prepare_draws_what_is_missing(tmp_path: Path) -> None:
    data = SewerSim(str(tmp_path / "sim"), SMALL)
    assert names(data.root) == []
    with pytest.raises(DataError, match="not drawn yet"):
        data.load(0)
    lines: list[str] = []
    data.prepare(lines.append)
    assert lines[0].startswith("drawing 44 simulated images")
    np.testing.assert_array_equal(data.load(7), picture(0, 7, 32, 0.5))
    (data.root / "images" / "00000003.png").unlink()
    (data.root / "images" / ".tmp-killed.png").touch()
    before = (data.root / "images" / "00000004.png").stat().st_mtime_ns
    data.prepare(lines.append)
    assert lines[1].startswith("drawing 1 simulated images")
    assert names(data.root) == sorted(data.index.ids.tolist())
    assert (data.root / "images" / "00000004.png").stat().st_mtime_ns == before
    data.prepare(lines.append)
    assert len(lines) == 2


def test_worker_processes_draw_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(tmp_path / "inline", SMALL, report=lambda line: None)
    monkeypatch.setattr(sewer_sim, "CHUNK", 15)  # three worker processes
    simulate(tmp_path / "apart", SMALL, report=lambda line: None)
    for name in names(tmp_path / "inline"):
        inline, apart = ((tmp_path / which / "images" / name).read_bytes() for which in ("inline", "apart"))
        assert inline == apart


def test_two_that_prepare_at_once_and_a_killed_one_leave_whole_files(tmp_path: Path) -> None:
    order = f"from trainers.data.sewer_sim import *; simulate(Path({str(tmp_path / 'sim')!r}), " \
            "SewerSim.Options(num_train=80, num_val=10, size=32), lambda line: print(line, flush=True))"
    killed = subprocess.Popen([sys.executable, "-c", order], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert killed.stdout is not None
    killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    with ThreadPoolExecutor(2) as pool:
        command = [sys.executable, "-c", order]
        runs = list(pool.map(lambda _: subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True),
                             range(2)))
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr + runs[1].stderr
    assert sum("drawing" in run.stdout for run in runs) <= 1
    data = SewerSim(str(tmp_path / "sim"), SewerSim.Options(num_train=80, num_val=10, size=32))
    assert names(data.root) == sorted(data.index.ids.tolist())
    for position in range(0, 90, 10):
        np.testing.assert_array_equal(data.load(position), picture(0, position, 32, 0.5))


def test_a_root_of_other_options_or_of_real_data_is_refused(tmp_path: Path) -> None:
    SewerSim(str(tmp_path / "sim"), SMALL)
    with pytest.raises(DataError, match=r"simulated with other options \(seed 0 instead of 1\)"):
        SewerSim(str(tmp_path / "sim"), SewerSim.Options(num_train=30, num_val=10, num_test=4, size=32, seed=1))
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "SewerML_Train.csv").write_text("Filename,Defect\n")
    with pytest.raises(DataError, match="was not written by sewer-sim"):
        SewerSim(str(tmp_path / "real"), SMALL)
    (tmp_path / "sim" / "simulation.json").write_text("{")
    with pytest.raises(DataError, match=r"simulation.json: cannot be read"):
        SewerSim(str(tmp_path / "sim"), SMALL)


def test_without_root_it_lives_in_the_cache_folder_by_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))
    one, two = SewerSim(None, SMALL), SewerSim(None, SewerSim.Options(num_train=31, num_val=10))
    assert one.root != two.root
    assert one.root.parent == two.root.parent == tmp_path / "sewer-sim"
    assert json.loads((one.root / "simulation.json").read_text())["num_train"] == 30


@pytest.mark.parametrize("options", [{"prevalence": 1.5}, {"num_train": 0}, {"size": 8}, {"seed": -1}])
def test_options_out_of_range_name_the_field(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"data.options.{next(iter(options))}: must"):
        SewerSim(None, SewerSim.Options(**options))  # type: ignore[arg-type]


def test_a_linear_probe_on_small_grey_pictures_does_not_solve_it() -> None:
    """AUROC <= 0.75 (design, section 4); on these 900 + 500 pictures the standard error is about 0.025."""
    indices = range(1400)
    with ThreadPoolExecutor(2) as pool:
        drawn = list(pool.map(lambda index: picture(0, index, 48, 0.5), indices))
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L").resize((16, 16), Image.Resampling.BOX)).ravel()
                     for image in drawn]).astype(float)
    labels = np.array([bool(scene(generator(0, index), 0.5).codes) for index in indices])
    logistic = LogisticRegressionCV(Cs=[1e-4, 1e-3, 1e-2, 1e-1, 1.0], cv=3, scoring="roc_auc", max_iter=200,
                                    l1_ratios=(0,), use_legacy_attributes=False)
    probe = make_pipeline(StandardScaler(), logistic)
    probe.fit(grey[:900], labels[:900])
    assert roc_auc_score(labels[900:], probe.decision_function(grey[900:])) <= 0.75
