"""What the report promises: any state of a study gives a page, nothing is dropped, no claim goes beyond its n."""

from __future__ import annotations

import dataclasses
import html
import html.parser
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablation.analysis import style
from ablation.analysis.document import Cell, Document, Section
from ablation.analysis.render import ALL
from ablation.analysis.sections.scores import score_tables
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import method_style
from ablation.report import write_report
from ablation.results import StudyResults, load_study
from ablation.store import TrialState, TrialStatus
from tests.ablation.synthetic_study import draw_images, write_study
from trainers.config import DataConfig

NAMED = re.compile(r"(?:src|href|xlink:href)=\"([^\"]*)\"")
VOID = {"meta", "img", "br", "link", "wbr"}
DIVERGED = TrialStatus(state=TrialState.FAILED, reason="diverged", message="loss is nan in epoch 4")
STALE = TrialStatus(state=TrialState.RUNNING, heartbeat=1.0)
SMALL = {"methods": ["simclr", "mae", "supervised"], "backbones": ["resnet18"], "imbalance": (0.05, 0.5), "epochs": 4}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True, scope="module")
def _fonts_are_not_cut_down() -> Iterator[None]:
    """TrueType subsets take a quarter of a second per PDF; ``test_figures`` looks at them."""
    kept, style.RC["pdf.fonttype"] = style.RC["pdf.fonttype"], 3
    yield
    style.RC["pdf.fonttype"] = kept


def study(tmp_path: Path, name: str = "demo", **settings: object) -> StudyResults:
    write_study(tmp_path / "store" / name, **{**SMALL, **settings})  # type: ignore[arg-type]
    return load_study(name, store=tmp_path / "store")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResults, Path]:
    """A finished study of three methods, two levels and three seeds, and its page."""
    results = study(tmp_path_factory.mktemp("finished"))
    return results, write_report(results, images=draw_images)


def text_of(page: Path) -> str:
    """What a reader sees: tags, style and figures removed, white space joined."""
    body = re.sub(r"<style.*?</style>|<svg.*?</svg>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(html.parser.unescape(re.sub(r"<[^>]+>", " ", body)).split())


class WellFormed(html.parser.HTMLParser):
    """Fails on a tag that is not closed in order; collects ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(finished: tuple[StudyResults, Path]) -> None:
    """No address outside the file, no script; all references resolve; tags are closed; every picture has a text."""
    page = finished[1].read_text()
    parser = WellFormed()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    for target in NAMED.findall(page):
        assert target.startswith("data:image/jpeg;base64,") or target[1:] in parser.ids, target
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(parser.ids)
    assert "<script" not in page
    assert "@import" not in page
    assert all('alt="Test image' in tag for tag in re.findall(r"<img[^>]*>", page))
    assert all("aria-label" in tag for tag in re.findall(r"<svg[^>]*role=\"img\"[^>]*>", page))


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also with a stale trial, whose silence grows."""
    states = {"simclr-resnet18-p0.05-s1": DIVERGED, "simclr-resnet18-p0.05-s0": STALE}
    results = study(tmp_path, states=states, methods=["simclr"])
    outputs = []
    for name in ("a", "b"):
        write_report(results, tmp_path / name, images=draw_images)
        outputs.append(
            {
                p.relative_to(tmp_path / name): p.read_bytes()
                for p in sorted((tmp_path / name).rglob("*"))
                if p.is_file()
            }
        )
    assert outputs[0] == outputs[1]
    figures = {f"figures/{name}.{kind}" for name in ("score_vs_imbalance", "rankme") for kind in ("png", "svg", "pdf")}
    tables = {f"tables/{name}.{kind}" for name in ("trials", "scores", "failures") for kind in ("csv", "parquet")}
    assert figures | tables | {"report.html", "report.md", "report.tex"} <= {str(p) for p in outputs[0]}
    papers = [data for name, data in outputs[0].items() if name.suffix == ".pdf"]
    assert not any(b"/CreationDate" in data or b"matplotlib" in data.lower() for data in papers)


def test_unfinished_trials_are_shown_with_their_reason_and_never_dropped(tmp_path: Path) -> None:
    states = {
        "mae-resnet18-p0.5": DIVERGED,
        "simclr-resnet18-p0.05-s1": TrialStatus(state=TrialState.STOPPED, reason="user"),
        "simclr-resnet18-p0.5-s0": TrialStatus(),
    }
    page = write_report(study(tmp_path, states=states), images=draw_images)
    text = text_of(page)
    assert "3 of 3 failed: diverged" in text
    assert "1 of 3 stopped: user" in text
    assert "1 of 3 not run yet" in text
    assert "18 planned trials (3 methods, 1 backbone, 2 imbalance levels, 3 seeds)" in text
    assert "13 finished, 3 failed, 1 stopped, 1 not run yet" in text
    assert "diverged: loss is nan in epoch 4" in text
    failures = pd.read_csv(page.parent / "tables/failures.csv")
    assert failures["state"].tolist() == ["FAILED", "FAILED", "FAILED", "STOPPED"]
    assert len(pd.read_csv(page.parent / "tables/trials.csv")) == 18
    scores = pd.read_csv(page.parent / "tables/scores.csv").set_index(["method", "imbalance"])
    assert scores.loc[("mae", 0.5), "n"] == 0


def test_one_seed_gives_points_without_intervals_and_says_so(tmp_path: Path) -> None:
    text = text_of(write_report(study(tmp_path, seeds=(0,)), images=draw_images))
    assert "Every cell rests on one trial" in text
    assert "One trial each: another seed may change this order." in text
    assert "±" not in text
    assert "95 % interval" not in text.split("1 Score against imbalance")[0]
    assert "Too few comparable trials" in text or "do not tell an association" in text


def test_the_summary_gives_interval_and_distance_to_both_references(
    finished: tuple[StudyResults, Path],
) -> None:
    results, page = finished
    text = text_of(page)
    best = results.aggregate("probe/auroc").query("method == 'simclr' and imbalance == 0.05").iloc[0]
    assert (
        f"SimCLR on ResNet-18 leads 2 self-supervised cells with {best['value']:.3f} (95 % interval {best['lo']:.3f} to"
        in text
    )
    trials = results.trials_dataframe()
    untrained = trials[trials["imbalance"] == 0.05]["metrics.random_init/auroc"].mean()
    assert f"It lies {best['value'] - untrained:.3f} above the same probe on the untrained backbone" in text
    assert "Supervised on ResNet-18 reaches" in text


def test_the_untrained_backbone_counts_once_per_seed(finished: tuple[StudyResults, Path]) -> None:
    """It is the same for all methods: three methods and three seeds are n = 3, not 9."""
    page = finished[1].read_text()
    row = page[page.index("Random init</th>") :]
    assert "n = 3" in row[: row.index("</tr>")]


def test_bold_is_the_best_self_supervised_method(
    finished: tuple[StudyResults, Path],
) -> None:
    page = finished[1].read_text().split('id="claims"')[0]
    rows = dict(re.findall(r'<th scope="row">(SimCLR|MAE|Supervised)</th>(.*?)</tr>', page, flags=re.DOTALL))
    assert [rows[name].count("<strong>") for name in ("SimCLR", "MAE", "Supervised")] == [2, 0, 0]


@pytest.mark.parametrize(
    ("levels", "bold"),
    [
        ({"simclr": (0.80, 0.78, 0.82, 5), "byol": (0.785, 0.7, 0.8, 5), "mae": (0.775, 0.7, 0.9, 5)}, "simclr byol"),
        ({"simclr": (0.80, 0.78, 0.82, 5), "supervised": (0.90, 0.89, 0.91, 5)}, "simclr"),
        ({"simclr": (0.80, math.nan, math.nan, 2), "byol": (0.799, 0.7, 0.9, 5)}, "simclr"),
        ({"simclr": (0.80, 0.70, 0.90, 1), "byol": (0.799, 0.7, 0.9, 5)}, "simclr"),
        ({"supervised": (0.90, 0.89, 0.91, 5)}, ""),
    ],
    ids=["inside the interval", "supervised is no rival", "no interval", "one trial", "only supervised"],
)
def test_bold_also_marks_what_is_not_told_apart_from_the_best(
    tmp_path: Path, levels: dict[str, tuple[float, float, float, int]], bold: str
) -> None:
    """The same cells in all three formats; the mean counts, not whether intervals overlap."""
    results = study(tmp_path, methods=list(levels), imbalance=(0.05,), seeds=(0,))
    view = StudyView.of(results, "probe/auroc")
    rows = [{**dict(zip(("value", "lo", "hi", "n"), values, strict=True)), "method": m} for m, values in levels.items()]
    cells = pd.DataFrame(rows).assign(backbone="resnet18", imbalance=0.05)
    table = score_tables(dataclasses.replace(view, cells=cells))[0]
    names = {method_style(method).label: method for method in levels}
    shown = {names[str(row.cells[0])]: row.cells[1] for row in table.rows if row.cells[0] in names}
    assert {m for m, cell in shown.items() if isinstance(cell, Cell) and cell.bold} == set(bold.split())
    document = Document("t", "", (), (Section("s", "s", (table,)),))
    marks = {"html": "<strong>0.", "md": "| **0.", "tex": r"\textbf{0."}
    assert [render(document).count(marks[name]) for name, render in ALL.items()] == [len(bold.split())] * 3


def test_numbers_and_words_in_one_column_become_text_in_parquet(tmp_path: Path) -> None:
    """And the other columns keep their numbers."""
    out = write_report(study(tmp_path, imbalance=(0.05, "natural"), seeds=(0,)), images=draw_images).parent
    for name in ("trials", "scores", "correlation", "failures"):
        frame, text = pd.read_parquet(out / f"tables/{name}.parquet"), pd.read_csv(out / f"tables/{name}.csv")
        assert frame.shape == text.shape
    scores = pd.read_parquet(out / "tables/scores.parquet")
    assert set(scores["imbalance"]) == {"0.05", "natural"}
    assert scores["value"].dtype == float


def test_markdown_and_latex_say_what_the_page_says(finished: tuple[StudyResults, Path]) -> None:
    """Same numbers, same sections in the same order, and figures that are there."""
    page, out = finished[1].read_text(), finished[1].parent
    titles = [html.unescape(text) for text in re.findall(r"<h2 id=\"[^\"]*\">\d+ ([^<]*)</h2>", page)]
    markdown, latex = (out / "report.md").read_text(), (out / "report.tex").read_text()
    assert re.findall(r"^## \d+ (.*)$", markdown, flags=re.MULTILINE) == titles
    assert re.findall(r"\\section\{(.*?)\}\\label", latex) == titles
    for text, pattern in ((markdown, r"!\[[^\]]*\]\(([^)]*)\)"), (latex, r"\\includegraphics\[[^\]]*\]\{([^}]*)\}")):
        links = re.findall(pattern, text)
        assert len(links) == len(list((out / "figures").glob("*.png"))) >= 12
        assert all((out / link).stat().st_size > 1000 for link in links)
    cells = page.split('id="claims"')[0].replace("\u00a0", " ")
    values = re.findall(r"<strong>(0\.\d{3})</strong> ± (0\.\d{3})", cells)
    assert len(values) == 2
    for value, span in values:
        assert f"**{value}** ± {span}<br>n = 3" in markdown
        assert rf"\textbf{{{value}}} $\pm$~{span}" in latex


@pytest.mark.parametrize(
    "settings",
    [
        {"states": {"": TrialStatus()}},
        {"states": {"": DIVERGED}},
        {"methods": ["supervised"], "imbalance": ("natural",), "seeds": (0,)},
        {"methods": ["simclr"], "imbalance": ("natural",)},
        {"methods": ["mymethod"], "backbones": ["convnext_atto"], "imbalance": (0.05, "natural")},
        {"drop_metrics": ["probe/auroc"]},
        {"drop_metrics": ["label_free/rankme", "random_init/auroc"], "imbalance": (0.2,)},
    ],
    ids=["nothing run", "all failed", "only supervised", "natural only", "own method", "no score", "no rankme"],
)
def test_any_study_gives_a_report(tmp_path: Path, settings: dict[str, object]) -> None:
    page = write_report(study(tmp_path, **settings), images=draw_images)
    text = text_of(page)
    assert len(re.findall(r"\d+ Settings and provenance", text)) == 2
    scored = "drop_metrics" not in settings or "probe/auroc" not in settings["drop_metrics"]  # type: ignore[operator]
    if "states" in settings or not scored:
        assert "there is no result to report yet" in text
        assert "No finished trial has probe/auroc" in text
    else:
        assert (page.parent / "figures/score_vs_imbalance.png").stat().st_size > 1000
    assert re.findall(r"\bnan\b", text.lower().replace(DIVERGED.message or "", "")) == []


def test_a_metric_that_is_better_low_ranks_the_other_way(tmp_path: Path) -> None:
    text = text_of(write_report(study(tmp_path), metric="train/loss", images=draw_images))
    assert "MAE on ResNet-18 leads 2 self-supervised cells" in text
    assert "untrained backbone" not in text.split("1 Score against")[0]


def test_the_contact_sheet_orders_by_score_and_tells_truth_in_words(finished: tuple[StudyResults, Path]) -> None:
    """Highest first; false alarms are normals only, misses defects only; one trial per level."""
    results, page = finished[0], finished[1].read_text()
    sheet = page[page.index('id="images"') : page.index('id="failures"')]
    strips = dict(re.findall(r"<h4>(.*?)</h4>(.*?)</ul>", sheet, flags=re.DOTALL))
    assert len(re.findall(r"<h3>", sheet)) == 2
    best = results.best("probe/auroc", by=["imbalance"])
    assert set(best["method"]) == {"supervised"}
    assert "Supervised on" not in sheet  # the sheet is of the best self-supervised trial
    values = [float(v) for v in re.findall(r"score ([\d.]+)<", strips["Highest by the probe"])]
    assert values == sorted(values, reverse=True)
    assert len(values) == 8
    assert set(re.findall(r'class="truth">(\w+)', strips["False alarms: normals the probe scores highest"])) == {
        "normal"
    }
    assert set(re.findall(r'class="truth">(\w+)', strips["Misses: defects the probe scores lowest"])) == {"defect"}


def test_pictures_come_from_the_trials_own_data_set(tmp_path: Path) -> None:
    """Without ``images`` the data set of the trial's configuration is opened."""
    from PIL import Image

    root = tmp_path / "parts"
    for i in range(40):
        split, kind = ("train" if i < 20 else "test"), ("good" if i % 2 == 0 else "crack")
        (root / split / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32, 3), 6 * i, np.uint8)).save(root / split / kind / f"{i}.png")
    data = DataConfig(dataset="folder", root=str(root))
    results = study(tmp_path, methods=["simclr"], seeds=(0,), data=data)
    for folder in (results.study_dir / "trials").iterdir():
        scores = pd.read_parquet(folder / "scores.parquet").query("split == 'test'").head(20)
        ids = [f"test/{'good' if i % 2 == 0 else 'crack'}/{i}.png" for i in range(20, 40)]
        scores.assign(image_id=ids).to_parquet(folder / "scores.parquet")
    page = write_report(results)
    assert "could not be opened" not in text_of(page)
    assert page.read_text().count("<img ") == 2 * 4 * 8


def test_lost_images_and_lost_scores_are_said_not_raised(tmp_path: Path) -> None:
    results = study(tmp_path, methods=["simclr"], data=DataConfig(dataset="folder", root=str(tmp_path / "gone")))
    best = results.best("probe/auroc", by=["imbalance"])
    (results.study_dir / "trials" / best.iloc[0]["key"] / "scores.parquet").unlink()
    text = text_of(write_report(results))
    assert "The trial stored no scores.parquet." in text
    assert "The images could not be opened" in text
    assert "gone" in text


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are complete before the first is replaced, and nothing is left lying about."""
    results = study(tmp_path, seeds=(0,), methods=["simclr"], imbalance=(0.05,))
    page = write_report(results, images=draw_images)
    before = {p: p.read_bytes() for p in page.parent.rglob("*") if p.is_file()}
    original = Path.write_bytes

    def full_disk(self: Path, data: bytes) -> int:
        if self.name == "report.html":
            raise OSError("no space left on device")
        return original(self, data[::-1])

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_report(results, images=draw_images)
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in page.parent.rglob("*") if p.is_file()} == before
    assert [p for p in page.parent.iterdir() if p.name.startswith(".")] == []


def test_names_from_the_study_are_escaped(tmp_path: Path) -> None:
    states = {"simclr": TrialStatus(state=TrialState.FAILED, reason="data", message="<script>alert(1)</script>")}
    out = write_report(
        study(tmp_path, states=states, methods=["simclr", "mae<b>"], seeds=(0,)), images=draw_images
    ).parent
    for name in ("report.html", "report.md", "report.tex"):
        text = re.sub(r"^```$.*?^```$", "", (out / name).read_text(), flags=re.DOTALL | re.MULTILINE)
        assert "<script>" not in text
        assert "mae<b>" not in re.sub(r"`[^`]*`", "", text)  # as code in Markdown it is no markup


def test_250_trials_make_one_page_small_enough_to_mail(tmp_path: Path) -> None:
    results = study(
        tmp_path,
        methods=["simclr", "barlow_twins", "byol", "dino", "mae"],
        backbones=["resnet18", "vit_tiny"],
        imbalance=(0.01, 0.02, 0.05, 0.15, 0.5),
        seeds=range(5),
        epochs=20,
    )
    page = write_report(results, images=draw_images)
    assert "250 finished" in text_of(page)
    assert page.stat().st_size < 3_000_000


def test_every_part_of_the_analysis_is_there_with_n_and_interval(finished: tuple[StudyResults, Path]) -> None:
    """Each table also as a file; a table of estimates has its n and both ends of an interval."""
    text, out = text_of(finished[1]), finished[1].parent
    intervals = {"claims": ("n", "lo", "hi"), "ranks": ("n", "lo", "hi", "prob_lo"), "power": ("n", "lo", "hi"),
                 "iqm": ("n", "lo", "hi"), "variance": ("n", "lo", "hi", "swing_lo"), "drop": ("n", "lo", "hi"),
                 "selectors": ("n", "lo", "hi", "wide_lo", "pooled_hi"), "regret": ("n", "lo", "hi", "gain_lo"),
                 "regret_seeds": ("n", "lo", "hi"), "correlation": ("n", "lo", "hi"), "detection": ("n", "lo", "hi"),
                 "detection_trial": ("n_defects", "lo", "hi"), "detection_types": ("n", "lo", "hi"),
                 "detection_cost": ("n_defects", "lo", "hi"), "detection_budget": ("n_validation", "tpr_lo", "fpr_hi"),
                 "detection_reliability": ("n", "lo", "hi"), "detection_calibration": ("n_defects", "lo", "hi")}
    for name, columns in intervals.items():
        frame = pd.read_parquet(out / f"tables/{name}.parquet")
        assert len(frame), name
        assert set(columns) <= set(frame.columns), name
        assert (out / f"tables/{name}.csv").read_text().splitlines()[0].split(",") == list(frame.columns)
    for words in ("Joint embedding (SimCLR, Barlow Twins) beats reconstruction (MAE)", "Friedman's test of equal mean",
                  "Typical swing of probe/auroc", "P(row beats column), percent", "Over 4 contexts a blind choice",
                  "pairs of methods are settled", "Threshold of the 5 % budget", "Expected cost of 1,000 images"):
        assert words in text, words


def test_a_study_without_its_images_or_scores_is_analysed_all_the_same(tmp_path: Path) -> None:
    results = study(tmp_path, methods=["simclr", "mae"], data=DataConfig(dataset="folder", root=str(tmp_path / "gone")))
    for path in results.study_dir.rglob("scores.parquet"):
        path.unlink()
    text = text_of(write_report(results))
    assert "Detection in practice" not in text
    assert "Choosing a model without labels" in text
    assert "labelled_20" not in pd.read_csv(results.study_dir / "report/tables/regret.csv")["selector"].tolist()
