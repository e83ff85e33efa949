"""The search section of a report and its figures: everything is there, in words that fit, and nothing without n."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablation.analysis import figures, search_figures, search_tables, style
from ablation.analysis.bundle import INKS, Bundle
from ablation.analysis.document import Details, Document, Plot, Section, Table, Text
from ablation.analysis.importance import importance
from ablation.analysis.render import ALL
from ablation.analysis.sections import search, search_settings
from ablation.analysis.sections.view import StudyView
from ablation.analysis.setting_scale import scales
from ablation.results import StudyResults, load_study
from tests.ablation.analysis.search_frames import AUROC, RANKME, arms_frame, candidates_frame
from tests.ablation.synthetic_study import write_study

METHODS, LEVELS = ["simclr", "mae"], [0.05, 0.5]


@pytest.fixture(autouse=True, scope="module")
def _fonts_are_not_cut_down() -> Iterator[None]:
    kept, style.RC["pdf.fonttype"] = style.RC["pdf.fonttype"], 3
    yield
    style.RC["pdf.fonttype"] = kept


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    store = tmp_path_factory.mktemp("search")
    write_study(store / "tuned", methods=METHODS, backbones=["resnet18"], imbalance=LEVELS, seeds=(0,), epochs=1)
    return load_study("tuned", store=store)


class Undrawn(Bundle):
    def plot(self, name: str, caption: str, *_: object, **__: object) -> Plot:
        return Plot(name, caption, ())


def built(results: StudyResults, candidates: pd.DataFrame, arms: pd.DataFrame,
          drawn: bool = False) -> tuple[Section | None, Bundle]:
    class Searched(StudyResults):
        def search_dataframe(self) -> pd.DataFrame:
            return candidates

        def arms_dataframe(self) -> pd.DataFrame:
            return arms

    bundle = Bundle() if drawn else Undrawn()
    with style.house_style():
        return search.section(StudyView.of(Searched(results.store), AUROC), bundle), bundle


@pytest.fixture(scope="module")
def whole(results: StudyResults) -> tuple[Section, Bundle]:
    candidates = candidates_frame(methods=METHODS, levels=LEVELS, metrics=(AUROC, RANKME), size=10)
    gain = {"recipe": 0.0, AUROC: 0.04, RANKME: 0.01}
    arms = arms_frame(lambda method, arm: 0.8 - (method == "mae") * 0.05 + gain[arm], methods=METHODS, levels=LEVELS,
                      arms=list(gain), backbones=["resnet18"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_settings, "MAX_SLICES", 2)
        found, bundle = built(results, candidates, arms, drawn=True)
    assert found is not None
    return found, bundle


def flat(section: Section) -> list[object]:
    return [inner for block in section.blocks for inner in (block.blocks if isinstance(block, Details) else (block,))]


def test_every_part_is_there_with_its_table_and_its_figure(whole: tuple[Section, Bundle]) -> None:
    section, bundle = whole
    for name in ("candidates", "budget", "gains", "pairs", "objectives", "importance"):
        assert len(pd.read_parquet(pd.io.common.BytesIO(bundle.files[f"tables/search_{name}.parquet"])))
    for name in ("history", "slopes", "importance", "slices", "parallel"):
        assert all(len(bundle.files[f"figures/search_{name}.{end}"]) > 1000 for end in ("png", "svg", "pdf"))
    text = ALL["md"](Document("t", "", (), (section,)))
    for words in ("The budget is equal", "fresh seeds", "no pair of methods changes places", "it keeps",
                  "FanovaImportanceEvaluator", "What each search found", "⚠ 1 failed"):
        assert words in text, words
    assert re.findall(r"\bnan\b|\bNone\b|<NA>", text) == []
    names = [block.name for block in flat(section) if isinstance(block, Table)]
    assert len(set(names)) == len(names)
    assert all(render(Document("t", "", (), (section,))) for render in ALL.values())


def test_the_tables_name_the_settings_that_were_found(whole: tuple[Section, Bundle]) -> None:
    winners = next(b for b in flat(whole[0]) if isinstance(b, Table) and b.name == "search_winners")
    assert len(winners.rows) == 8
    settings = [str(row.cells[-1]) for row in winners.rows]
    assert all("lr 0.00" in text and "batch_size " in text for text in settings)
    assert ["temperature" in text for text in settings] == [True] * 4 + [False] * 4


def test_a_search_that_has_hardly_begun_says_what_is_missing(results: StudyResults) -> None:
    """Two candidates, no trial on fresh seeds, no space to be had."""
    candidates = candidates_frame(methods=["own_method"], size=2, pruned=False).assign(state="RUNNING", best=False)
    candidates["value"] = np.nan
    section, _ = built(results, candidates, pd.DataFrame())
    assert section is not None
    text = " ".join(block.text for block in section.blocks if isinstance(block, Text))
    assert "No trial on fresh seeds has `probe/auroc` in both arms yet" in text
    assert "Importance needs 8 complete candidates" in text
    assert "τ" not in text
    assert [block.name for block in section.blocks if isinstance(block, Plot)] == ["search_history"]


def test_two_objectives_at_once_show_their_front(results: StudyResults) -> None:
    candidates = candidates_frame(methods=["simclr"], size=6, pruned=False)
    candidates = candidates.assign(cost=np.arange(6.0), pareto=[True, False, True, False, False, False])
    section, _ = built(results, candidates, pd.DataFrame())
    assert section is not None
    front = next(b for b in flat(section) if isinstance(b, Table) and b.name == "search_pareto")
    assert [row.cells[2] for row in front.rows] == ["0", "2"]
    assert str(front.rows[0].cells[-1]).startswith("the recipe: lr 0.003")


def test_a_study_without_a_search_has_no_section(results: StudyResults) -> None:
    assert built(results, pd.DataFrame(), pd.DataFrame())[0] is None


def every_figure() -> dict[str, Axes]:
    frame = candidates_frame(methods=["dino", "mae"], backbones=["resnet18", "vit_tiny"], levels=LEVELS, size=12)
    mine = frame[frame["method"].eq("dino")]
    complete, found = search_tables.places(mine), scales(mine)
    shares = pd.concat([importance(rows).assign(backbone=name) for name, rows in mine.groupby("backbone")])
    gains = search_tables.gains(arms_frame(lambda *_: 0.7, methods=["dino", "own_method"]), AUROC, AUROC)
    lr, batch = "set.train.lr", "set.train.batch_size"
    found[batch] = type(found[batch]).of(mine[batch].astype(str))
    return {"history": search_figures.history(search_tables.progress(mine), title="DINO", ylabel=AUROC),
            "slice": search_figures.slices(complete, lr, found[lr], title="DINO", ylabel=AUROC),
            "slice of a choice": search_figures.slices(complete.astype({batch: str}), batch, found[batch]),
            "parallel": search_figures.parallel(complete.astype({batch: str}), found, title="DINO, ResNet-18"),
            "importance": search_figures.importance_bars(shares, title="DINO"),
            "slopes": search_figures.slopes(gains, metric=AUROC, title=f"by {AUROC}")}


def test_only_colours_that_the_page_can_replace_and_no_text_is_clipped() -> None:
    with style.house_style():
        for name, ax in every_figure().items():
            figure = ax.get_figure(root=True)
            assert isinstance(figure, Figure)
            svg, drawn = figures.to_svg(figure), ax.get_tightbbox()
            assert set(re.findall(r"#[0-9a-f]{6}", svg)) <= set(INKS), name
            assert drawn is not None
            assert min(drawn.x0, drawn.y0) > -1, name
            assert drawn.x1 < figure.bbox.x1 + 1, name
            assert drawn.y1 < figure.bbox.y1 + 1, name


def test_what_is_drawn_is_what_the_frame_says() -> None:
    drawn = every_figure()
    frame = search_tables.progress(candidates_frame(methods=["dino"], backbones=["resnet18", "vit_tiny"], levels=LEVELS,
                                                    size=12))
    lines = drawn["history"].lines
    assert len(lines) == 5 * 4  # line, stopped, complete, recipe, failed of four searches
    best = frame[frame["imbalance"].eq(0.05) & frame["backbone"].eq("resnet18")]
    assert lines[0].get_ydata()[-1] == best.loc[best["state"].eq("COMPLETE"), "value"].max()
    assert len(lines[1].get_xdata()) == int(best["state"].eq("PRUNED").sum()) > 0
    assert lines[1].get_markerfacecolor() == "white"
    assert drawn["slice"].get_xscale() == "log"
    assert drawn["importance"].patches[0].get_width() == pytest.approx(max(p.get_width() for p in drawn[
        "importance"].patches), rel=0.5)
    assert [tick.get_text() for tick in drawn["slopes"].get_xticklabels()] == ["recipe", "tuned"]
