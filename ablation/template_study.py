"""The study file that ``ablation init`` writes: complete, commented, and valid as it stands."""

from __future__ import annotations

import json
import re

TEMPLATE = """\
# ablation run {file}        what it would do, without training: ablation plan {file}
# All fields: ablation validate --schema. Any of them can be overridden: ablation run {file} train.epochs=5
name: {name}

data:
  dataset: {dataset}          # sewer-sim | sewer-ml | folder | table | digits (ablation datasets)
{root}  image_size: 64             # side of the square training view, pixels

imbalance:
  policy: fixed_total        # fixed_total | fixed_normals | natural
  total: {total}                # images used for pre-training; null = the largest that all levels can meet

grid:                        # every combination is one trial
  method: [simclr, barlow_twins, byol, dino, mae, supervised]
  backbone: [resnet18, vit_tiny]
  imbalance: [0.05, 0.5]     # share of defects among the pre-training images
  seed: [0, 1, 2]            # with fewer than 3 no interval can be given

train:
  epochs: {epochs}                # batch size, optimiser and rates: null = the recipe (docs/results/recipes.md)

evaluation:
  test_prevalence: 0.5       # the same test set for every level
  deployment_prevalence: 0.02  # for precision as a user would see it

resources:
  num_workers: 1             # processes (DDP ranks) of one trial
  gpus_per_worker: auto      # 0.25 packs four trials on a GPU

retries: 2
"""


def study_text(file: str, title: str, root: str | None) -> str:
    """A study on the pictures below ``root`` (class folders, or a CSV or Parquet table), or on drawn ones."""
    tables = (".csv", ".parquet", ".pq")
    dataset = "sewer-sim" if root is None else "table" if root.lower().endswith(tables) else "folder"
    line = "" if root is None else f"  root: {json.dumps(root, ensure_ascii=False)}\n"  # a JSON string is a YAML string
    name = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "study"
    total = 1000 if root is None else "null"
    return TEMPLATE.format(file=file, name=json.dumps(name), dataset=dataset, root=line, total=total, epochs=10)
