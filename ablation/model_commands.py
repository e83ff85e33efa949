"""``ablation export`` and ``ablation score``: what a finished trial is good for."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ablation import completion
from ablation.arguments import StoreOption
from ablation.console import Format, emit, note

app = typer.Typer()
Threshold = Annotated[str | None, typer.Option(
    help="deployment, f1 or f2 (chosen on validation; the first where defects are as rare as in use), or a number "
         "[deployment, or that of the export]")]


class ModelFormat(enum.StrEnum):
    """Of an export."""

    timm = "timm"
    torchscript = "torchscript"
    onnx = "onnx"


class By(enum.StrEnum):
    """What a score is."""

    probe = "probe"
    distance = "distance"


@app.command(epilog="Example: ablation export quickstart simclr-resnet18-p0.5-s0-3f9a1c2e --out model --format onnx")
def export(trial: Annotated[list[str], typer.Argument(
        metavar="[STUDY] KEY", help="a finished trial", autocompletion=completion.studies_and_keys)],
           out: Annotated[Path | None, typer.Option(help="folder to write")] = None,
           format: Annotated[ModelFormat, typer.Option("--format", help="timm: weights, probe and the code that runs "
                                                       "them; torchscript, onnx: one file")] = ModelFormat.timm,
           threshold: Threshold = None, store: StoreOption = None,
           register: Annotated[str | None, typer.Option(
               metavar="NAME", help="also (or only) as the next version of this model in MLflow's registry")] = None,
           alias: Annotated[str | None, typer.Option(help="alias of the version, besides 'newest'")] = None,
           tracking_uri: Annotated[str | None, typer.Option(
               "--tracking-uri", help="MLflow [MLFLOW_TRACKING_URI, the store]")] = None) -> None:
    """Write a trial's encoder, probe, threshold and model card, and print where."""
    from ablation.defect_models import DECISION, find_trial
    from ablation.export import export_model

    if out is None and register is None:
        raise typer.BadParameter("say where to: --out FOLDER, --register NAME, or both")
    if len(trial) > 2:
        raise typer.BadParameter("one trial: [STUDY] KEY")
    results, key = find_trial(trial, store)
    if out is not None:
        folder = export_model(results, key, out, format.value, threshold or DECISION)
        if not (results.store.trial_dir(key) / "probe.safetensors").is_file():
            note(f"{key}: has no probe, so this is its encoder alone")
        print(folder)
    if register is not None:
        from ablation.model_registry import register_model

        print(register_model(results, key, register, tracking_uri, threshold or DECISION, alias))


@app.command(epilog="Example: ablation score model photos/ --out scores.parquet")
def score(words: Annotated[list[str], typer.Argument(
              metavar="MODEL IMAGES...", autocompletion=completion.studies_and_keys,
              help="MODEL: a trial, as KEY or STUDY KEY, or what ablation export wrote. "
              "IMAGES: files, folders, patterns, CSV or Parquet files with a column path")],
          out: Annotated[Path | None, typer.Option(help="a .parquet, .csv or .json file instead of printing")] = None,
          threshold: Threshold = None,
          by: Annotated[By | None, typer.Option(
              help="probe: probability of a defect, and decision. distance: how unusual without any labels "
                   "[probe; distance with --reference]")] = None,
          reference: Annotated[list[str] | None, typer.Option(
              help="mostly normal images to measure distance from; default: the others")] = None,
          device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
          store: StoreOption = None, format: Annotated[Format, typer.Option("--format", help="how to print")]
          = Format.table) -> None:
    """Score image files with a trained model; higher = more likely a defect. Corrupt files are named and left out."""
    from ablation.defect_models import open_encoder, open_model, split_words
    from ablation.image_lists import list_images
    from ablation.image_scoring import WRITERS, distance_scores, probe_scores, write_scores

    if out is not None and (out.suffix not in WRITERS or not out.parent.is_dir()):
        raise typer.BadParameter(f"--out {out}: a {', '.join(WRITERS)} file in a folder that exists")
    if by is By.probe and reference:
        raise typer.BadParameter("--reference is for --by distance")
    source, places = split_words(words, store)
    images = list_images(places)
    if by is By.distance or reference:
        others = list_images(reference) if reference else []
        frame = distance_scores(*open_encoder(source, store, device), images, others, note)
    else:
        frame = probe_scores(open_model(source, store, threshold, device), images, note)
    if out is None:
        emit(frame, format)
        return
    write_scores(frame, out)
    print(out)
