"""``ablation data``: simulate, prepare and describe data sets."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ablation.arguments import Study
from ablation.console import Format, emit, note

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Simulate, prepare and describe data.")
Overrides = Annotated[list[str] | None, typer.Argument(help="fields of the study file, e.g. data.root=DIR")]


@app.command(epilog="Example: ablation data simulate /tmp/sewer --train 2000 --val 500")
def simulate(root: Annotated[Path, typer.Argument(help="folder to write; the exact layout of Sewer-ML")],
             train: Annotated[int, typer.Option(min=2, help="labelled training images")] = 3000,
             val: Annotated[int, typer.Option(min=2, help="labelled hold-out images")] = 800,
             test: Annotated[int, typer.Option(min=0, help="images without labels")] = 0,
             prevalence: Annotated[float, typer.Option(min=0.001, max=0.999, help="share of defects")] = 0.5,
             size: Annotated[int, typer.Option(min=32, max=768, help="side of an image, pixels")] = 96,
             seed: Annotated[int, typer.Option(min=0)] = 0) -> None:
    """Draw sewer-pipe images with defects and write them as Sewer-ML writes its own."""
    from trainers.data.sewer_sim import SewerSim, simulate as draw

    options = SewerSim.Options(num_train=train, num_val=val, num_test=test, prevalence=prevalence, size=size, seed=seed)
    draw(root, options, note)
    print(root)


@app.command(epilog="Example: ablation data prepare study.yaml data.root=/data/parts")
def prepare(study: Study, overrides: Overrides = None) -> None:
    """Decode all labelled images of a study's data set into the cache, before any trial runs."""
    import numpy as np

    from ablation.spec import StudySpec
    from trainers.data.cache import default_cache_dir
    from trainers.data.loader import open_data

    data = open_data(StudySpec.load(study, overrides or ()).data, default_cache_dir())
    data.cache.ensure(np.flatnonzero(data.dataset.index.labels >= 0), report=note)
    for image_id, why in data.cache.corrupt.items():
        note(f"corrupt, left out: {image_id}: {why}")
    print(default_cache_dir())


class Show(enum.StrEnum):
    """Parts of a description; all but ``counts`` look at the pixels."""

    all = "all"
    counts = "counts"
    checks = "checks"
    problems = "problems"


@app.command(epilog="Example: ablation data describe study.yaml data.root=/data/parts --show problems --format csv")
def describe(study: Study, overrides: Overrides = None,
             show: Annotated[Show, typer.Option(help="all: counts and checks; problems: one line per picture with one; "
                                                     "counts: without reading pictures")] = Show.all,
             images: Annotated[int, typer.Option(min=0, help="most pictures to look at, 0 = all")] = 20_000,
             format: Annotated[Format, typer.Option("--format", help="how to print")] = Format.table) -> None:
    """Count images per split, label and defect type; look for copies, leaks between splits, flat and broken ones."""
    import pandas as pd

    from ablation.description import check_rows, count_rows
    from ablation.spec import StudySpec
    from trainers.data import open_dataset
    from trainers.data.survey import choose, problems, survey

    data = StudySpec.load(study, overrides or ()).data
    dataset = open_dataset(data)
    note(f"{len(dataset.index)} images, data digest {dataset.index.digest}")
    if show in (Show.all, Show.counts):
        emit(count_rows(dataset.index), format)
    if show is Show.counts:
        return
    if show is Show.all and format is not Format.table:
        note("counts only; the pictures: --show checks, --show problems")  # two tables are no JSON
        return
    found = survey(dataset, choose(dataset.index, images), note)
    wrong = problems(dataset.index, found)
    if show is Show.problems:
        emit(pd.DataFrame([vars(item) for item in wrong], columns=["problem", "image", "split", "label", "detail"]),
             format)
        return
    if show is Show.all:
        print()
    emit(check_rows(dataset, found, wrong, data.image_size), format)
    if wrong:
        note(f"{len(wrong)} pictures with a problem, by name: --show problems")
