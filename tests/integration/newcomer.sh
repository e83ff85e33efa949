#!/bin/sh
# A newcomer who has read the README: fresh clone, a study of own pictures, killed and started again, asked from Python,
# exported, used on pictures. Says only what the README says: its fences are carried out as they stand there.
#
#     sh tests/integration/newcomer.sh REPOSITORY FOLDER     about two minutes on 2 cores
set -eu
repository=$(cd "$1" && pwd)
mkdir -p "$2" && cd "$2"
unset CI RAY_ADDRESS MLFLOW_TRACKING_URI ABLATION_STORE VIRTUAL_ENV
export ABLATION_CACHE="$PWD/cache"  # nothing is left outside of FOLDER

step() { echo "== $*"; }

die() { echo "newcomer: $*" >&2; exit 1; }

fence() {  # SECTION LANGUAGE: the last block of code in this language under this heading of the README
    awk -v section="## $1" -v start="\`\`\`$2" '
        /^## /                    { inside = ($0 == section) }
        inside && $0 == start     { shown = 1; text = ""; next }
        /^```/                    { shown = 0 }
        shown                     { text = text $0 "\n" }
        END                       { if (text == "") exit 1; printf "%s", text }' README.md
}

num_finished() { find studies/parts/trials -name result.json 2>/dev/null | wc -l; }

step "a fresh clone"
git clone --quiet "$repository" ablation && cd ablation
make --silent install
. .venv/bin/activate

step "own pictures: grey noise, scratches are bright lines"
python - <<'PYTHON'
from pathlib import Path
import numpy as np
from PIL import Image

draw = np.random.default_rng(0)
for split, num_images in (("train", 60), ("val", 40)):
    for kind in ("normal", "scratch"):
        folder = Path("parts", split, kind)
        folder.mkdir(parents=True)
        for number in range(num_images):
            pixels = draw.integers(60, 140, (40, 48), dtype=np.uint8)
            if kind == "scratch":
                pixels[draw.integers(4, 36)] = 250
            Image.fromarray(pixels).save(folder / f"part {number}.png")
PYTHON
fence "Your own pictures" yaml > parts.yaml

step "small enough for a coffee: the smallest network, two methods, two epochs"
set -- parts.yaml 'grid.method=[simclr,supervised]' 'grid.backbone=[test_resnet]' 'grid.imbalance=[0.5]' 'grid.seed=[0,1]' \
    data.image_size=32 imbalance.total=60 train.epochs=2 train.batch_size=16 evaluation.max_images=80 \
    evaluation.fixed_labelled=20 evaluation.view_images=8 evaluation.views_per_image=2 allow_tiny=true
ablation doctor parts.yaml || test $? = 2  # no folder holds 2,000 images yet, and it says so
ablation run "$@" > killed.out 2> killed.err &
driver=$!
while [ "$(num_finished)" = 0 ]; do
    kill -0 $driver 2>/dev/null || { cat killed.err; die "the study ended before a trial did"; }
    sleep 0.2
done
step "killed"
kill -KILL $driver
wait $driver 2>/dev/null || true
before=$(num_finished)
[ "$before" -lt 4 ] || die "nothing was left to resume"
find studies/parts/trials -name result.json -newer parts.yaml -exec cksum {} + | sort > before.txt

step "started again: only what is missing runs"
ablation run "$@" 2> resumed.err || { cat resumed.err; die "the study was not resumed"; }
to_run=$(sed -n 's/^parts: 4 trials, \([0-9]\) to run.*/\1/p' resumed.err)
[ "$to_run" -gt 0 ] && [ "$to_run" -le $((4 - before)) ] || die "$before were finished, $to_run were run"
[ "$(num_finished)" = 4 ] || die "$(num_finished) of 4 trials are finished"
cut -d ' ' -f 3- before.txt | tr '\n' '\0' | xargs -0 cksum | sort | cmp - before.txt || die "a finished result was changed"
[ -s studies/parts/report/report.html ] || die "no report"
ablation status parts

step "asked from Python"
fence "From Python" python > query.py
python query.py

step "exported, and used on pictures"
fence "Use the result" sh > use.sh
sh -eu use.sh
[ "$(wc -l < scores.csv)" = 81 ] || die "scores.csv: $(wc -l < scores.csv) lines, expected a head and 80 pictures"
step "done"
