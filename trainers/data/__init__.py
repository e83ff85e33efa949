"""Readers of labelled images. A new one = one file with an ``AbstractDataset`` and a line in ``DATASETS``."""

from __future__ import annotations

from trainers.config import ConfigError, DataConfig, decode, suggest
from trainers.data.digits import Digits
from trainers.data.folder import Folder
from trainers.data.index import AbstractDataset
from trainers.data.sewer_ml import SewerML
from trainers.data.sewer_sim import SewerSim
from trainers.data.table import Table

DATASETS: dict[str, type[AbstractDataset]] = {
    "sewer-sim": SewerSim,
    "sewer-ml": SewerML,
    "folder": Folder,
    "table": Table,
    "digits": Digits,
}


def open_dataset(config: DataConfig) -> AbstractDataset:
    """The reader that ``config`` names, its tables read. Raises ``ConfigError`` or ``DataError``."""
    if config.dataset not in DATASETS:
        raise ConfigError("data.dataset", f"unknown data set '{config.dataset}'{suggest(config.dataset, DATASETS)}; "
                                          f"known are {', '.join(DATASETS)}")
    reader = DATASETS[config.dataset]
    options = decode(reader.Options, config.options, "data.options")
    if reader.needs_root and config.root is None:
        raise ConfigError("data.root", f"'{config.dataset}' needs the place of the data: set data.root, or give "
                          "data.root=PLACE after the study")
    return reader(config.root, options)
