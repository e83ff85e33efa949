"""Simulated sewer images, written in the Sewer-ML layout and read back by its reader."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from PIL import Image

from trainers.atomic import locked, replace_file
from trainers.config import ConfigError
from trainers.countdown import Countdown
from trainers.data.cache import default_cache_dir, num_cores
from trainers.data.images import decode_image
from trainers.data.index import AbstractDataset, DataError
from trainers.data.sewer_defects import Scene, generator, picture, scene
from trainers.data.sewer_ml import CODES, COLUMNS, SPLIT_FILES, SewerML

VERSION = 1
"""Raised whenever the same options would draw other pictures."""
SETTINGS_FILE = "simulation.json"
CHUNK = 500
"""Pictures per worker process (about 3 s of drawing against 1 s of start-up)."""


@final
class SewerSim(AbstractDataset):
    """Pipe interiors with cracks, roots, deposits, … drawn on first use; see ``sewer_defects``.

    Linear probe on 16x16 grey pixels: AUROC below 0.75; supervised ResNet-18 at 64 px: above 0.95.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """What is drawn. Equal options give equal pictures."""

        num_train: int = 3000
        num_val: int = 800
        num_test: int = 0
        """Images without labels, as in Sewer-ML's Test split."""
        prevalence: float = 0.5
        """Chance of a defect per image, 0 to 1."""
        seed: int = 0
        size: int = 96
        """Side of the pictures, pixels."""

    summary: ClassVar[str] = "simulated sewer pipe images in Sewer-ML's layout, drawn on first use (no download)"
    needs_root: ClassVar[bool] = False
    mean = (0.558, 0.514, 0.452)
    std = (0.208, 0.197, 0.187)

    def __init__(self, root: str | None, options: Options) -> None:
        _check(options)
        self.root = Path(root).expanduser() if root else default_cache_dir() / "sewer-sim" / _digest(options)
        self._options = options
        _write_tables(self.root, options)
        self.index = SewerML(str(self.root), SewerML.Options()).index

    def prepare(self, report: Callable[[str], None] = print) -> None:
        """Draw the pictures that are missing. Safe to call from several processes, and again after a kill."""
        _draw_missing(self.root, self._options, report)

    def load(self, position: int) -> np.ndarray:
        name = str(self.index.ids[position])
        path = self.root / "images" / name
        if not path.exists():
            raise DataError(f"{path}: not drawn yet; call prepare() or run `ablation data prepare`")
        return decode_image(path, name)

    def sample(self, position: int) -> np.ndarray:
        name = str(self.index.ids[position])
        if (self.root / "images" / name).exists():
            return self.load(position)
        options = self._options
        return picture(options.seed, int(name.removesuffix(".png")) - 1, options.size, options.prevalence)


def simulate(root: Path, options: SewerSim.Options, report: Callable[[str], None] = print) -> None:
    """Write tables and pictures to ``root`` in the Sewer-ML layout."""
    SewerSim(str(root), options).prepare(report)


def _check(options: SewerSim.Options) -> None:
    for name, least in (("num_train", 1), ("num_val", 1), ("num_test", 0), ("seed", 0)):
        if getattr(options, name) < least:
            raise ConfigError(f"data.options.{name}", f"must be {least} or more, got {getattr(options, name)}")
    if not 0 < options.prevalence < 1:
        raise ConfigError("data.options.prevalence", f"must lie between 0 and 1, got {options.prevalence}")
    if not 32 <= options.size <= 1024:
        raise ConfigError("data.options.size", f"must be 32 to 1024 pixels, got {options.size}")


def _settings(options: SewerSim.Options) -> dict[str, Any]:
    return {"version": VERSION, **dataclasses.asdict(options)}


def _digest(options: SewerSim.Options) -> str:
    return hashlib.blake2b(json.dumps(_settings(options), sort_keys=True).encode(), digest_size=6).hexdigest()


def _write_tables(root: Path, options: SewerSim.Options) -> None:
    """Write the CSV files unless they stand there already; refuse a folder of other data."""
    settings = root / SETTINGS_FILE
    if not settings.exists():
        with locked(root / ".lock"):
            if not settings.exists():
                _write_new_tables(root, options)
    try:
        found = json.loads(settings.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{settings}: cannot be read ({error}); delete {root} or choose another data.root") from None
    changed = [f"{name} {found.get(name)} instead of {value}" for name, value in _settings(options).items()
               if found.get(name) != value]
    if changed:
        raise DataError(f"{root}: was simulated with other options ({', '.join(changed)}); choose another data.root, "
                        "or make data.options equal")


def _write_new_tables(root: Path, options: SewerSim.Options) -> None:
    foreign = [name for name in SPLIT_FILES.values() if (root / name).exists()]
    if foreign:
        raise DataError(f"{root}: {foreign[0]} was not written by sewer-sim; use sewer-ml, or another data.root")
    (root / "images").mkdir(parents=True, exist_ok=True)
    for split, indices in _indices(options).items():
        if not indices:
            continue
        scenes = [(index, scene(generator(options.seed, index), options.prevalence)) for index in indices]
        rows = [_name(index) if split == "test" else _row(index, what) for index, what in scenes]
        header = "Filename" if split == "test" else ",".join(COLUMNS)
        text = "\n".join([header, *rows]) + "\n"
        replace_file(root / SPLIT_FILES[split], lambda handle, text=text: handle.write(text.encode()))  # type: ignore[misc]
    settings = json.dumps(_settings(options), indent=1)
    replace_file(root / SETTINGS_FILE, lambda handle: handle.write(settings.encode()))


def _indices(options: SewerSim.Options) -> dict[str, range]:
    """Numbers are global over the splits, as in Sewer-ML."""
    first, second = options.num_train, options.num_train + options.num_val
    return {"train": range(first), "val": range(first, second), "test": range(second, second + options.num_test)}


def _name(index: int) -> str:
    return f"{index + 1:08d}.png"


def _row(index: int, what: Scene) -> str:
    noted = int(what.water_note)
    codes = [int(code in what.codes) for code in CODES]
    values = [what.water_level, noted, *codes, int(not noted and not what.codes), int(bool(what.codes))]
    return ",".join([_name(index), *map(str, values)])


def _missing(folder: Path, options: SewerSim.Options) -> list[int]:
    folder.mkdir(parents=True, exist_ok=True)
    with os.scandir(folder) as entries:
        present = {entry.name for entry in entries}
    return [index for indices in _indices(options).values() for index in indices if _name(index) not in present]


def _draw_missing(root: Path, options: SewerSim.Options, report: Callable[[str], None]) -> None:
    folder = root / "images"
    if not _missing(folder, options):
        return
    with locked(root / ".lock"):
        for left in folder.glob(".tmp-*"):  # of a killed run; the lock says that nobody is drawing
            left.unlink(missing_ok=True)
        missing = _missing(folder, options)
        if not missing:
            return
        chunks = [missing[start:start + CHUNK] for start in range(0, len(missing), CHUNK)]
        report(f"drawing {len(missing)} simulated images in {folder}")
        countdown = Countdown("drawn", len(missing), "images", report)
        for count in _draw_chunks(folder, options, chunks):
            countdown.step(count)


def _draw_chunks(folder: Path, options: SewerSim.Options, chunks: list[list[int]]) -> Iterator[int]:
    """Draw in fresh interpreters: unlike multiprocessing's spawn they never import the caller's main script."""
    if len(chunks) == 1 and len(chunks[0]) <= CHUNK // 5:
        draw(folder, options, chunks[0])
        yield len(chunks[0])
        return
    with ThreadPoolExecutor(min(num_cores(), len(chunks))) as pool:
        waiting = [pool.submit(_draw_apart, folder, options, chunk) for chunk in chunks]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_apart(folder: Path, options: SewerSim.Options, indices: list[int]) -> int:
    order = {"folder": str(folder), "options": dataclasses.asdict(options), "indices": indices}
    search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    environment = {**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", "from trainers.data.sewer_sim import draw_from_stdin as d; d()"],
                          input=json.dumps(order), env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DataError(f"{folder}: drawing failed: {last}")
    return len(indices)


def draw_from_stdin() -> None:
    """A worker process: its orders come as JSON on stdin."""
    order = json.load(sys.stdin)
    draw(Path(order["folder"]), SewerSim.Options(**order["options"]), order["indices"])


def draw(folder: Path, options: SewerSim.Options, indices: list[int]) -> None:
    """Draw pictures ``indices`` into ``folder``."""
    for index in indices:
        image = Image.fromarray(picture(options.seed, index, options.size, options.prevalence))
        try:
            replace_file(folder / _name(index), lambda f, i=image: i.save(f, "PNG", compress_level=1), sync=False)  # type: ignore[misc]
        except OSError as error:
            raise DataError(f"{folder}: cannot write {_name(index)} ({error.strerror or error}); free some space or "
                            "choose another data.root") from None
