"""``ablation data``: simulate, prepare and describe data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ablation.console import Format, emit, note

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Simulate, prepare and describe data.")
Study = Annotated[str, typer.Argument(help="study.yaml, path.py:function, or the name of a built-in study")]
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


@app.command(epilog="Example: ablation data describe study.yaml data.root=/data/parts")
def describe(study: Study, overrides: Overrides = None,
             format: Annotated[Format, typer.Option("--format", help="how to print")] = Format.table) -> None:
    """Count images per split, label and defect type."""
    import pandas as pd

    from ablation.spec import StudySpec
    from trainers.data import open_dataset

    index = open_dataset(StudySpec.load(study, overrides or ()).data).index
    label = pd.Series(index.labels).map({0: "normal", 1: "defect", -1: "unknown"})
    frame = pd.DataFrame({"split": index.splits, "label": label, "type": index.defect_types, "group": index.groups})
    counts = frame.groupby(["split", "label", "type"]).agg(images=("group", "size"), groups=("group", "nunique"))
    emit(counts.reset_index(), format)
    note(f"{len(index)} images, data digest {index.digest}")
