"""What a study found, read from the store alone: no cluster, no MLflow. Methods return tidy frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablation import search_results
from ablation.analysis import claims, factors as factor_tables, selectors, tables
from ablation.analysis.extension import MAX_MORE, Extension, extension
from ablation.defect_models import DECISION, trial_model
from ablation.errors import DataError, NothingMatched
from ablation.search_settings import RECIPE
from ablation.store import Store, StudyStore
from ablation.trial import shown
from trainers import plugins
from trainers.config import suggest

if TYPE_CHECKING:
    from ablation.analysis.statistics import Statistic
    from ablation.spec import StudySpec
    from trainers.export import Encoder
    from trainers.inference.model import DefectModel

_CELL = ("method", "backbone", "imbalance", "seed")


def load_study(name: str, store: Store | str | Path | None = None) -> StudyResults:
    """Results so far of a study. Raises ``NothingMatched`` when the store has none of that name."""
    opened = Store.open(store)
    study = opened.study(name)
    if not name or not study.exists:
        known = opened.studies()
        there = f"it has {', '.join(known)}" if known else "it has none yet"
        raise NothingMatched(f"no study '{name}' in {opened.root}{suggest(name, known)}; {there}")
    return StudyResults(study)


class StudyResults:
    """Read-only view of one study; every call reads the store anew."""

    def __init__(self, store: StudyStore) -> None:
        self.store = store
        self.name = store.name
        self.study_dir = store.path

    def __repr__(self) -> str:
        counts = Counter(str(self.store.read_state(key).state) for key in self.store.planned_keys())
        return f"StudyResults('{self.name}': {', '.join(f'{n} {state}' for state, n in counts.items()) or 'no trials'})"

    def _repr_html_(self) -> str:
        frame = self.trials_dataframe()
        shown = [name for name in frame.columns if not name.startswith(("params.", "provenance."))]
        return f"<p>{repr(self).replace('<', '&lt;')}</p>" + frame[shown].to_html(max_rows=20, index=False)

    def trials_dataframe(self) -> pd.DataFrame:
        """One row per planned trial, in plan order, whatever became of it.

        Columns: key, state, method, backbone, imbalance, seed, reason, flags (comma-separated), num_defects,
        num_normals, role (only with a search: candidate or fresh), params.*, metrics.*, provenance.*. ``imbalance`` is
        float64, or object with floats and the word ``natural`` where the study has that level. Metrics of
        trials without a result are NaN.
        """
        return self._frame(self.store.read_plan()["trials"])

    def reported_trials(self, arm: str | None = None) -> pd.DataFrame:
        """What tables and figures are about: all trials, or of a search the winners on fresh seeds.

        ``arm``: ``recipe``, or one of the search's objectives; null = the first objective. Candidates are left out:
        they were chosen among.
        """
        record = self.store.read_plan().get("search")
        if record is None:
            return self.trials_dataframe()
        if arm is None:
            arm = next((search["metric"] for search in record["searches"]), RECIPE)
        frame = self.arms_dataframe()
        return frame[frame["arm"] == arm].drop(columns="arm").reset_index(drop=True)

    def arms_dataframe(self) -> pd.DataFrame:
        """The trials of a search on fresh seeds, as ``trials_dataframe`` with a column ``arm``: ``recipe``, or the
        objective whose winner it is. A trial stands once per arm. Empty without a search."""
        plan = self.store.read_plan()
        rows = {row["key"]: row for row in plan["trials"]}
        fresh = [line for line in (plan.get("search") or {}).get("fresh", ()) if line["key"] in rows]
        frame = self._frame([rows[line["key"]] for line in fresh])
        return frame.assign(arm=pd.Series([line["arm"] for line in fresh], dtype=object))

    def search_dataframe(self) -> pd.DataFrame:
        """One row per candidate of each search; see ``ablation.search_results.candidates``."""
        return search_results.candidates(self.store)

    def best_recipes(self, metric: str | None = None) -> StudySpec:
        """The study with the settings that its search found, as a study without a search: see ``search_results``."""
        return search_results.tuned(self.store, metric)

    def _frame(self, planned_rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        rows = [self._row(planned) for planned in planned_rows]
        names = dict.fromkeys(name for row in rows for name in row)
        columns = ["key", "state", *_CELL, "reason", "flags", "num_defects", "num_normals"]
        columns += ["role"] * ("role" in names)
        for prefix in ("params.", "metrics.", "provenance."):
            columns += sorted(name for name in names if name.startswith(prefix))
        frame = pd.DataFrame(rows, columns=columns)
        for name in ("seed", "num_defects", "num_normals"):
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("Int64")
        if not frame["seed"].isna().any():
            frame["seed"] = frame["seed"].astype("int64")
        frame["imbalance"] = frame["imbalance"].astype(object if frame["imbalance"].eq("natural").any() else float)
        metrics = [name for name in frame.columns if name.startswith("metrics.")]
        return frame.astype(dict.fromkeys(metrics, float)).copy()  # hundreds of columns, one block

    def _row(self, planned: Mapping[str, Any]) -> dict[str, Any]:
        key = planned["key"]
        trial = self.store.read_trial(key)
        status, result = self.store.read_outcome(key)
        config, subset = shown(trial.get("config") or {}), trial.get("subset") or {}
        flags = dict.fromkeys([*(result.get("flags") or ()), *status.flags])
        row: dict[str, Any] = {"key": key, "state": str(status.state), "reason": status.reason or ""}
        row["flags"] = ",".join(flags)
        row |= {name: planned.get(name, config.get(name)) for name in _CELL}
        row |= {name: planned.get(name, subset.get(name)) for name in ("num_defects", "num_normals")}
        row |= {"role": planned["role"]} if "role" in planned else {}
        params = {name: value for name, value in config.items() if name not in _CELL}
        row |= _flat(params, "params.")
        numbers = (result.get("metrics") or {}) | (result.get("further") or {})
        row |= {f"metrics.{name}": value for name, value in numbers.items()}
        return row | _flat(result.get("provenance") or {}, "provenance.")

    def history(self, keys: Iterable[str] | str | None = None) -> pd.DataFrame:
        """Curves of all trials, or of some keys, in long form: key, epoch, step, metric, value."""
        wanted = self.store.planned_keys() if keys is None else [self._known(key) for key in _names(keys)]
        rows = [(key, record.get("epoch"), record["step"], metric, value) for key in wanted
                for record in self.store.read_history(key) for metric, value in (record.get("metrics") or {}).items()]
        frame = pd.DataFrame(rows, columns=["key", "epoch", "step", "metric", "value"])
        return frame.astype({"epoch": "Int64", "step": "Int64", "value": float})

    def best(self, metric: str, by: Iterable[str] = (), k: int = 1) -> pd.DataFrame:
        """The ``k`` best finished trials, or those of each group of ``by``; knows which direction is better."""
        return tables.best(self.reported_trials(), metric, _names(by), k)

    def aggregate(self, metric: str, by: Iterable[str] = tables.CELL, stat: Statistic = "mean", ci: float = 0.95,
                  n_boot: int = 10_000, seed: int = 0) -> pd.DataFrame:
        """Mean, median or interquartile mean per group, n, planned, lo, hi; see ``analysis.statistics.interval``."""
        return tables.aggregate(self.reported_trials(), metric, _names(by), stat, ci, n_boot, seed)

    def correlate(self, x: str, y: str, group: str | Sequence[str] = "method", ci: float = 0.95, n_boot: int = 1000,
                  seed: int = 0, supervised: bool = True) -> pd.DataFrame:
        """Rank correlation within, between and over groups; see ``analysis.selectors.correlate`` for what each may say.

        Here and below ``supervised=False`` leaves the supervised references out, as the report does.
        """
        return selectors.correlate(self._trials(supervised), x, y, group, ci, n_boot, seed)

    def regret(self, selector: Sequence[str] | str | None = None, metric: str = "probe/auroc",
               within: Sequence[str] = ("method", "imbalance"), labelled: bool = True,
               supervised: bool = True) -> pd.DataFrame:
        """What choosing by a selector costs, beside a blind choice, the loss and few labels.

        ``selector`` null: every label-free metric of the study. See ``analysis.selectors.regret``.
        """
        trials = selectors.with_clid(self._trials(supervised))
        names = selectors.selectors_of(trials) if selector is None else _names(selector)
        return selectors.regret(trials, names, metric, _names(within), scores=self.scores if labelled else None)

    def variance(self, metric: str, factors: Sequence[str] = tables.CELL, supervised: bool = True) -> pd.DataFrame:
        """Which factor moves the score: omega squared and typical swing; see ``analysis.factors.variance``."""
        return factor_tables.variance(self._trials(supervised), metric, _names(factors))

    def compare(self, metric: str, by: str = "method", blocks: Sequence[str] | None = None,
                supervised: bool = True) -> pd.DataFrame:
        """Friedman over blocks, then each pair with interval, ranks and tests; see ``analysis.factors.compare``."""
        trials = self._trials(supervised)
        return factor_tables.compare(trials, metric, by, None if blocks is None else _names(blocks))

    def pair_power(self, metric: str, by: str = "method", blocks: Sequence[str] | None = None,
                   supervised: bool = True) -> pd.DataFrame:
        """What the present seeds can show of each pair; see ``analysis.factors.pair_power``."""
        trials = self._trials(supervised)
        return factor_tables.pair_power(trials, metric, by, None if blocks is None else _names(blocks))

    def drop(self, metric: str, by: Sequence[str] = ("method",)) -> pd.DataFrame:
        """What rarity costs against the most balanced level; see ``analysis.factors.drop``. With references."""
        return factor_tables.drop(self.reported_trials(), metric, _names(by))

    def curves(self, metric: str = "train/loss", by: Sequence[str] = tables.CELL) -> pd.DataFrame:
        """Mean curves over seeds, by epoch; see ``analysis.tables.curves``."""
        return tables.curves(self.reported_trials(), self.history(), metric, _names(by))

    def _trials(self, supervised: bool) -> pd.DataFrame:
        trials = self.reported_trials()
        return trials if supervised else tables.self_supervised(trials)

    def extension(self, metric: str = "probe/auroc", max_more: int = MAX_MORE) -> Extension:
        """The trials worth running next, as a study that extends this one; see ``analysis.extension``."""
        from ablation.spec import StudySpec

        with plugins.foreign():
            spec = StudySpec.load(self.study_dir / "study.yaml")
        if spec.search is not None:
            raise NothingMatched(f"study '{self.name}' has a search: add seeds to grid.seed or search.fresh_seeds")
        return extension(self.reported_trials(), spec, metric, max_more)

    def claims(self, metric: str = "probe/auroc") -> pd.DataFrame:
        """The paper's claims, each with this study's evidence and verdict; see ``analysis.claims.claims``."""
        return claims.claims(self.reported_trials(), metric)

    def report(self, out: str | Path | None = None, say: Callable[[str], None] | None = None) -> Path:
        """Write the report, by default into the study's own folder; returns its page. ``say``: told how far it is."""
        from ablation.report import write_report

        return write_report(self, None if out is None else Path(out), say=say)

    def encoder(self, key: str) -> Encoder:
        """The trained backbone of a finished trial as a torch module: uint8 images -> features."""
        from trainers.data.index import DataError as BadData
        from trainers.export import load_encoder

        path = self._file(key, "encoder.safetensors")
        try:
            return load_encoder(path)
        except BadData as error:
            raise DataError(str(error)) from error

    def model(self, key: str, threshold: str = DECISION) -> DefectModel:
        """Encoder, probe and threshold of a finished trial: uint8 images -> probability of a defect and decision."""
        return trial_model(self, key, threshold)

    def scores(self, key: str) -> pd.DataFrame:
        """Scores of each validation and test image under the probes and detectors of a finished trial."""
        return pd.read_parquet(self._file(key, "scores.parquet"))

    def _file(self, key: str, name: str) -> Path:
        path = self.store.trial_dir(self._known(key)) / name
        if not path.is_file():
            raise NothingMatched(f"trial '{key}' has no {name}; it is {self.store.read_state(key).state}")
        return path

    def _known(self, key: str) -> str:
        """A planned key, or one of an earlier plan that is still on disk."""
        keys = dict.fromkeys([*self.store.planned_keys(), *self.store.keys_on_disk()])
        if key not in keys:
            raise NothingMatched(f"no trial '{key}' in study '{self.name}'{suggest(key, keys)}")
        return key


def _names(names: Iterable[str] | str) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested mappings as dotted columns; lists as text."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value) if isinstance(value, list) else value
    return flat
