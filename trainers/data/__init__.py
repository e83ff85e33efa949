"""Readers of labelled images. A new one = one file with an ``AbstractDataset`` and a line in ``DATASETS``.

One from outside (``trainers.plugins``) needs no line.
"""

from __future__ import annotations

import inspect

from trainers import plugins
from trainers.config import ConfigError, DataConfig, decode, suggest
from trainers.data.digits import Digits
from trainers.data.folder import Folder
from trainers.data.index import AbstractDataset, DataError, check_index
from trainers.data.sewer_ml import SewerML
from trainers.data.sewer_sim import SewerSim
from trainers.data.table import Table
from trainers.python_file import told

DATASETS: dict[str, type[AbstractDataset]] = {
    "sewer-sim": SewerSim,
    "sewer-ml": SewerML,
    "folder": Folder,
    "table": Table,
    "digits": Digits,
}


def open_dataset(config: DataConfig) -> AbstractDataset:
    """The reader that ``config`` names, its tables read. Raises ``ConfigError`` or ``DataError``."""
    reader = find_dataset(config.dataset)
    options = decode(reader.Options, config.options, "data.options")
    if reader.needs_root and config.root is None:
        raise ConfigError("data.root", f"'{config.dataset}' needs the place of the data: set data.root, or give "
                          "data.root=PLACE after the study")
    if config.dataset in DATASETS:
        return reader(config.root, options)
    try:
        dataset = reader(config.root, options)
        check_index(dataset.index)
    except (ConfigError, DataError):
        raise
    except Exception as error:
        raise plugins.refuse("datasets", config.dataset, f"opening it raised {told(error)}") from error
    return dataset


def find_dataset(name: str) -> type[AbstractDataset]:
    """The reader of that name, built in or a plug-in. Raises ``ConfigError`` at ``data.dataset``."""
    if not plugins.is_plugin("datasets", name):
        if name not in DATASETS:
            known = plugins.known("datasets")
            raise ConfigError("data.dataset", f"unknown data set '{name}'{suggest(name, known)}; "
                                              f"known are {', '.join(known)}")
        return DATASETS[name]
    found = plugins.find("datasets", name).value
    if not (isinstance(found, type) and issubclass(found, AbstractDataset)):
        raise plugins.refuse("datasets", name, "a data set is a subclass of trainers.data.index.AbstractDataset")
    missing = sorted(found.__abstractmethods__) if inspect.isabstract(found) else []
    missing += [] if isinstance(getattr(found, "summary", None), str) else ["summary"]
    if missing:
        raise plugins.refuse("datasets", name, f"lacks {', '.join(missing)}, which every data set has")
    return found
