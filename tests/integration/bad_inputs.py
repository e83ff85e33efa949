"""Mistakes that people make, one line each: what they type, the exit code (design section 8), what they must be told.

``Mistake(command line, what each error line says, exit code, content of the file @)``. In the command line ``@`` stands
for ``study.yaml``, written with the given content; everything else is there already (``workshop`` in
``test_error_catalogue.py``): the study ``good.yaml`` on the pictures ``parts/``, a finished study ``done`` whose first
trial has the key KEY, ``p.py``, ``afile``, an empty folder ``void``, and data sets with one fault each.
"""

from __future__ import annotations

from dataclasses import dataclass

GOOD = {
    "name": "name: parts",
    "data": "data: {dataset: folder, root: parts, image_size: 16}",
    "imbalance": "imbalance: {total: 60}",
    "grid": "grid: {method: [simclr], backbone: [resnet18], imbalance: [0.5], seed: [0]}",
    "train": "train: {epochs: 1, batch_size: 32}",
}
KEY = "simclr-resnet18-p0.05-s0-00000000"
PYTHON = """\
from ablation.spec import StudySpec
def boom(): raise ValueError("no money")
def wrong(): return 5
def bad(): return StudySpec(name="A B")
def needs(x): return x
def nothing(): pass
def leave(): raise SystemExit(3)
"""


def study(**sections: str) -> str:
    """The good study with some sections replaced (without their name) or added."""
    return "\n".join((GOOD | {name: f"{name}: {text}" for name, text in sections.items()}).values()) + "\n"


@dataclass(frozen=True)
class Mistake:
    command: str
    told: str | tuple[str, ...]
    exit: int = 2
    file: str | bytes = ""

    def __str__(self) -> str:
        return f"{self.told if isinstance(self.told, str) else self.told[0]}"[:90]


M = Mistake


def yaml(told: str, content: str | bytes) -> Mistake:
    """A study file as a whole."""
    return Mistake("plan @", told, file=content)


def field(*told: str, **sections: str) -> Mistake:
    """A section of the good study: 1 name, 2 data, 3 imbalance, 4 grid, 5 train, 6 what is added."""
    return Mistake("plan @", tuple(f"study.yaml:{line}" if line[:1].isdigit() else line for line in told),
                   file=study(**sections))


def table(told: str, content: str | bytes, command: str = "plan") -> Mistake:
    """A CSV file as data set."""
    return Mistake(f"{command} good.yaml data.dataset=table data.root=study.yaml", told, file=content)


STUDY_FILES = [
    M("plan nowhere.yaml", "nowhere.yaml: no such file; 'ablation init nowhere.yaml' writes one"),
    M("plan quickstrt", "(did you mean 'quickstart'?)"),
    M("plan nowhere", "neither a .yaml file, nor path.py:function, nor a built-in study ("),
    M("plan parts", "parts: is a folder, not a study; 'ablation init study.yaml --data parts'"),
    M("plan dir.yaml", "dir.yaml: cannot be read (Is a directory)"),
    yaml("study.yaml: is empty; 'ablation init", "# nothing yet\n"),
    yaml("study.yaml:1: a study file is a mapping", "- a\n- b\n"),
    yaml("study.yaml:2: not UTF-8 text (byte 0x80); save it as UTF-8", bytes(range(256))),
    yaml("study.yaml: not a text file: unacceptable character #x0000", b"name: a\0b\n"),
    yaml("study.yaml:3: not valid YAML: found character '\\t' that cannot start any token; indent with spaces",
         "name: a\ngrid:\n\tseed: 0\n"),
    yaml("study.yaml:2: not valid YAML: expected ',' or '}', but got '<stream end>'; a bracket", "name: {a\n"),
    yaml("study.yaml:2: not valid YAML: found another document; a study file holds one", "name: a\n---\nname: b\n"),
    yaml("study.yaml:1: not valid YAML: mapping values are not allowed here; quote a text", "name: a: b\n"),
    yaml("study.yaml:6: train: written twice (first on line 5)", study() + "train: {epochs: 2}\n"),
    yaml("study.yaml:1: not valid YAML: found undefined alias 'x'", "name: *x\n"),
    yaml("study.yaml:1: not valid YAML: could not determine a constructor", "name: !!python/name:os.x\n"),
]
FIELDS = [
    yaml("study.yaml:1: name: is required", "grid: {seed: 0}\n"),
    field("1: name: is empty, expected text", name=""),
    field("1: name: got 5, expected text", name="5"),
    field("1: name: got '../x', expected 1 to 64 of a-z 0-9", name="../x"),
    field("6: epochs: unknown field (did you mean 'train.epochs'?)", epochs="3"),
    field("5: train.lrr: unknown field (did you mean 'lr'?)", train="{lrr: 1}"),
    field("4: grid.methods: unknown field (did you mean 'method'?)", grid="{methods: [mae]}"),
    field("2: data.rot: unknown field (did you mean 'root'?)", data="{rot: parts}"),
    field("5: train: got [1], expected a mapping {name: value}", train="[1]"),
    field("5: train: is empty, expected a mapping", train=""),
    field("2: data.image_size: got '64', expected a whole number", data="{image_size: '64'}"),
    field("2: data.image_size: must be a multiple of 8 between", data="{image_size: 17}"),
    field("2: data.cache_size: must be at least image_size", data="{cache_size: 8}"),
    field("2: data.dataset: unknown dataset 'foldr' (did you mean", data="{dataset: foldr}"),
    field("2: data.root: 'folder' needs the place of the data", data="{dataset: folder}"),
    field("2: data.options.x: unknown field", data="{dataset: folder, root: parts, options: {x: 1}}"),
    field("2: data.options.anomaly: must be a digit from 0 to 9", data="{dataset: digits, options: {anomaly: 12}}"),
    field("3: imbalance.policy: got 'fixed', expected one of", imbalance="{policy: fixed}"),
    field("3: imbalance.total: got 60.5, expected a whole number", imbalance="{total: 60.5}"),
    field("3: imbalance.normals: only with policy fixed_normals", imbalance="{normals: 10}"),
    field("4: grid.method.0: unknown method 'simclrr' (did you mean 'simclr'?)", grid="{method: [simclrr]}"),
    field("4: grid.method: must name at least one value", grid="{method: []}"),
    field("4: grid.seed.1: 0 is there twice", grid="{seed: [0, 0]}"),
    field("4: grid.seed.0: must be 0 or more", grid="{seed: [-1]}"),
    field("4: grid.seed.0: got 'a', expected a whole number", grid="{seed: [a]}"),
    field("4: grid.imbalance.0: a prevalence lies between 0 and 1, got 5", grid="{imbalance: [5]}"),
    field("4: grid.imbalance.0: must be a finite number, got nan", grid="{imbalance: [.nan]}"),
    field("4: grid.imbalance.0: got 'naturl', expected a number or natural", grid="{imbalance: [naturl]}"),
    field("4: grid.backbone.0: timm knows no 'resnet81' (did you mean", grid="{backbone: [resnet81]}"),
    field("4: grid.backbone.0: 'hf-hub:x/y' is no timm name (such as resnet18", grid="{backbone: ['hf-hub:x/y']}"),
    field("5: train.epochs: must be 1 or more, got 0", train="{epochs: 0}"),
    field("5: train.epochs: got True, expected a whole number", train="{epochs: true}"),
    field("5: train.lr: must be a finite number, got inf", train="{lr: .inf}"),
    field("5: train.optimizer: got 'adam', expected one of lars, sgd or adamw (did", train="{optimizer: adam}"),
    field("5: train.precision: got 'fp16', expected one of auto, fp32 or bf16", train="{precision: fp16}"),
    field("6: retries: must be 0 or more", retries="-1"),
    field("6: allow_tiny: got 'maybe', expected true or false", allow_tiny="maybe"),
    field("6: evaluation.every: must be 1 or more, got -1", "6: evaluation.test_prevalence: must lie between 0 and 1",
          evaluation="{every: -1, test_prevalence: 2}"),
    field("6: resources.gpus_per_worker: must be 0 or more", resources="{gpus_per_worker: -1}"),
    field("6: resources.gpus_per_worker: got 'some', expected auto or a number", resources="{gpus_per_worker: some}"),
    field("6: resources.num_workers: must be 1 or more, got 0", resources="{num_workers: 0}"),
    field("6: overrides.0.where.methd: unknown field (did you mean 'method'?)",
          overrides="[{where: {methd: byol}, set: {train.lr: 1}}]"),
    field("6: overrides.0.set.trian.batch_size: must be a dotted field such as train.batch_size (did you mean",
          overrides="[{where: {method: byol}, set: {trian.batch_size: 8}}]"),
    field("6: overrides.0.set.data.dataset: is the same for all trials of a study; only train.*, imbalance.*",
          overrides="[{where: {method: byol}, set: {data.dataset: digits}}]"),
    field("6: overrides.set: is required", "6: overrides.where: got 1, expected a mapping", overrides="{where: 1}"),
]
PLANS = [
    field("5: train.options.temprature: unknown field (did you mean 'temperature'?)",
          train="{batch_size: 32, options: {temprature: 1}}"),
    field("5: train.options.temperature: got 'hot', expected a number",
          train="{batch_size: 32, options: {temperature: hot}}"),
    field("5: train.batch_size: 97 is more than the 60 images", train="{batch_size: 97}"),
    field("5: train.batch_size: 32 cannot be divided by resources.num_workers 7", resources="{num_workers: 7}"),
    field("6: resources.gpus_per_worker: 0.5 with num_workers 2: ranks of one trial cannot share",
          resources="{num_workers: 2, gpus_per_worker: 0.5}"),
    field("4: imbalance 0.001: leaves 0 defects and 60 normal images", grid="{method: [byol], imbalance: [0.001]}"),
    field("4: imbalance 0.1: only 6 defects among 60 images, fewer than 20 say little; use more images or a higher "
          "level, or pass --allow-tiny", grid="{method: [byol], imbalance: [0.1]}"),
    field("2: data.image_size: mae on resnet18 hides cells of 16 px: take a multiple",
          grid="{method: [mae], backbone: [resnet18], imbalance: [0.5]}"),
    field("6: evaluation.test_prevalence 0.001: the hold-out has", evaluation="{test_prevalence: 0.001}"),
    M("plan good.yaml imbalance.total=1000", "needs 500 defects and 500 normal images, the train split has 60 and 60"),
    M("run good.yaml train.epochs=2 resources.num_workers=32", "num_workers: 32 rank(s) x 1 CPU(s) asked for"),
    M("run good.yaml train.epochs=2 resources.gpus_per_worker=64", "64 x 1 rank(s) asked for, the cluster has"),
    M("plan good.yaml train.epochs=2 --estimate resources.num_workers=32", "lower num_workers or cpus_per_worker"),
    M("plan paper", "paper: data: "),
]
ARGUMENTS = [
    M("plan good.yaml train.epochs", "argument 'train.epochs': expected key.path=value, for example train.epochs=5"),
    M("plan good.yaml extra words", ("argument 'extra': expected key.path=value", "argument 'words': expected")),
    M("plan good.yaml train.epochs=", "argument 'train.epochs=': train.epochs: is empty, expected a whole number"),
    M("plan good.yaml train.epoch=5", "argument 'train.epoch=5': train.epoch: unknown field (did you mean 'epochs'?)"),
    M("plan good.yaml 'train.epochs=[1'", "not valid YAML: expected ',' or ']', but got '<stream end>'; a bracket"),
    M("plan good.yaml train..epochs=1", "argument 'train..epochs=1': expected key.path=value"),
    M("plan good.yaml grid.seed.7=1", "argument 'grid.seed.7=1': grid.seed is a list of 1; there is no element '7'"),
    M("plan good.yaml overrides.0.set=1", "overrides is not in the file; there is no element '0' to change"),
    M("plan good.yaml name.x=1", "argument 'name.x=1': name is the value 'parts', it has no field 'x'"),
    M("plan good.yaml train=5", "argument 'train=5': train: got 5, expected a mapping"),
    M("plan good.yaml --allow-tiny=5", "Option '--allow-tiny' does not take a value"),
    M("plan", "Missing argument 'study'; see: ablation plan --help"),
    M("pln", "No such command 'pln' (did you mean 'plan'?); see: ablation --help"),
    M("run good.yaml --only simclr", "No such option: --only; see: ablation run --help"),
    M("validate good.yaml --shema", "No such option: --shema (Possible options: --help, --schema)"),
    M("plan good.yaml --format xml", "'xml' is not one of 'table', 'json', 'csv', 'md'; see: ablation plan --help"),
    M("run good.yaml --max-concurrent 0", "'--max-concurrent': must be greater than or equal to 1"),
    M("run good.yaml --max-concurrent two", "'--max-concurrent': must be a valid integer"),
    M("analyze rank done", "No such command 'rank' (did you mean 'ranks'?)"),
    M("validate", "name a study file, or use --schema"),
]
PYTHON_FILES = [
    M("plan p.py", "p.py: name the function that returns the study: p.py:study"),
    M("plan p.py:bom", "p.py: there is no function 'bom' (did you mean 'boom'?)"),
    M("plan p.py:boom", "p.py:boom: raised ValueError: no money"),
    M("plan p.py:wrong", "p.py:wrong: returned int, expected a StudySpec"),
    M("plan p.py:nothing", "p.py:nothing: returned nothing; it must end with 'return' and a StudySpec"),
    M("plan p.py:bad", "p.py:bad: name: got 'A B', expected"),
    M("plan p.py:needs", "p.py:needs: raised TypeError: needs() missing 1 required positional argument"),
    M("plan p.py:leave", "p.py:leave: raised SystemExit: 3"),
    M("plan q.py:study", "q.py: no such file"),
    M("plan broken.py:study", "broken.py:1: not valid Python: "),
    M("plan imports.py:study", "imports.py: loading it raised ModuleNotFoundError: No module named 'no_such_package'"),
    M("methods show simclrr", "unknown method 'simclrr' (did you mean 'simclr'?)"),
    M("methods show simclr --space p.py:boom", "p.py:boom: raised ValueError: no money"),
    M("methods show simclr --space fast", "'fast' is neither path.py:function nor the name of a search space"),
]
DATA = [
    M("plan good.yaml data.root=nowhere", "nowhere: no such folder; data.root must hold train/ and val/ or test/"),
    M("plan good.yaml data.root=afile", "afile: no such folder; data.root must hold train/ and val/ or test/"),
    M("plan good.yaml data.root=void", "void: no folder train/; create train/normal and one folder per defect type"),
    M("plan good.yaml data.root=one-class", ("evaluation: no hold-out with both classes",
                                             "the train split has no defects (30 normal images)")),
    M("plan good.yaml data.root=no-normal", "train: no normal class; call its folder normal, good, ok or 0"),
    M("plan good.yaml data.root=no-val", "no-val: no folder val/ or test/; create val/normal and val/DEFECT"),
    M("plan good.yaml data.root=empty-class", "train/normal: no images (.avif, .bmp,"),
    M("plan good.yaml data.root=flat", "flat/train: no class folder; create train/normal and one folder per defect"),
    M("data prepare good.yaml data.root=corrupt", "10 of 160 images are corrupt, more than 1%: train/normal/0.png: "),
    M("data describe good.yaml data.root=nowhere", "nowhere: no such folder"),
    table("study.yaml: is empty; the first line names the columns path,label", ""),
    table("study.yaml:1: no column path; needed are path,label, possible are split", "a,b\n1,2\n"),
    table("study.yaml:1: no column label; rename 'lable'", "path,lable\na.png,0\n"),
    table("study.yaml:1: there are 2 columns path; keep one", "path,label,path\na.png,0,b.png\n"),
    table("study.yaml: has no rows; add one line per image", "path,label\n"),
    table("study.yaml:3: label: got 'maybe', expected 0, 1, normal or defect", "path,label\na,0\nb,maybe\n"),
    table("study.yaml:2: split: got 'trian', expected train, val or test", "path,label,split\na,0,trian\n"),
    table("study.yaml:2: 1 fields, the header has 2; repair or delete the line", "path,label\na.png\n"),
    table("study.yaml:3: path: 'a.png' already stands in", "path,label\na.png,0\na.png,1\n"),
    table("study.yaml:2: path: '../a.png' leaves the folder of the table", "path,label\n../a.png,0\n"),
    table("study.yaml:3: group: 'g' is in val here and in train at", "path,label,split,group\na,0,train,g\nb,1,val,g"),
    table("study.yaml: cannot be read ('utf-8' codec can't decode", bytes(range(256))),
    table("images are corrupt, more than 1%: gone0.png: file is missing",
          "path,label\n" + "".join(f"gone{i}.png,{i % 2}\n" for i in range(90)), "data prepare"),
    M("plan good.yaml data.dataset=table data.root=bad.parquet", "bad.parquet: not a readable Parquet file"),
    M("plan good.yaml data.dataset=sewer-ml data.root=void", "void/SewerML_Train.csv: missing; Sewer-ML needs"),
    M("data prepare good.yaml data.dataset=sewer-ml data.root=zipped", "images.zip: not a readable zip archive"),
    M("data simulate afile", "afile: cannot be written (File exists); choose another folder"),
    M("data simulate sim --prevalence 2", "'--prevalence': must be less than or equal to 0.999"),
    M("init good.yaml", "good.yaml: exists already; give another name: ablation init other.yaml"),
    M("init no/where.yaml", "no/where.yaml: cannot be written (No such file or directory); name a file in a folder"),
    M("init study.txt", "study.txt: a study file ends in .yaml"),
]
STORES = [
    M("status nothere", "no study 'nothere' in ", 4),
    M("status don", "(did you mean 'done'?); it has done, parts", 4),
    M("plan good.yaml --store afile", "afile is a file; name a folder with --store or ABLATION_STORE"),
    M("status --store afile/x", "afile is a file; name a folder with --store or ABLATION_STORE"),
    M("plan good.yaml --store s3://bucket/x", "store s3://bucket/x: object stores are not supported yet"),
    M("run good.yaml train.epochs=2 --store /proc/nowhere", "cannot write (No such file or directory); free the"),
    M("logs done nokey", "study 'done' has no trial 'nokey'; see: ablation status done", 4),
    M(f"logs done {KEY[:-1]}1", "(did you mean 'simclr-resnet18-p0.05-s1-00000001'?)", 4),
    M("stop done", "no driver runs study 'done'", 4),
    M(f"stop done {KEY}", "study 'done': none of these trials is running", 4),
    M("retry done", "study 'done': none of these trials has failed or was stopped", 4),
    M("results done --where \"method = 'simclr'\"", "= assigns, == compares, e.g. method == 'simclr'"),
    M("results done --where \"metod == 'simclr'\"", "name 'metod' is not defined (columns: key, state, method"),
    M("results done --where seed", "--where 'seed': must be true or false for each trial"),
    M("results done --where 'seed =='", "--where 'seed ==': invalid syntax (columns: key"),
    M("results done --where 'seed == 9'", "no trial of 'done' matches 'seed == 9'", 4),
    M("best done -m probe/aurc", "no trial has 'probe/aurc' (did you mean 'probe/auroc'?)", 4),
    M("best done -m xyz", "no trial has 'xyz'; factors are method, backbone, imbalance, seed; metrics: ablation", 4),
    M("best done --by metod", "no trial has 'metod' (did you mean 'method'?)", 4),
    M("compare done --by x", "no trial has 'x'; factors are method", 4),
    M("analyze curves done -m nope", "no trial has reported 'nope' while training", 4),
    M("analyze regret done --within ,", "name at least one column or metric, comma separated"),
    M("run good.yaml --fail-under probe/auroc=0.99", "gate not met: probe/auroc=0.99", 5),
    M("run good.yaml --fail-under probe/aurc=0.8", "unknown metric 'probe/aurc' (did you mean 'probe/auroc'?)"),
    M("run good.yaml --fail-under 'probe/auroc>0.8'", "'probe/auroc>0.8': expected metric=number, e.g."),
    M("run good.yaml --fail-under probe/auroc=nan", "'probe/auroc=nan': expected metric=number, e.g. probe/auroc=0.8"),
    M("report done --out afile", "afile: cannot be made a folder (File exists); give another with --out"),
]
MODELS = [
    M("export done nokey --out model", "no trial 'nokey' in study 'done'", 4),
    M(f"export done {KEY}", "say where to: --out FOLDER, --register NAME, or both"),
    M(f"export done {KEY} --out afile", "afile: "),
    M(f"export done {KEY} --out taken", "taken/README.md: exists already and is not of this trial; give another"),
    M(f"export done {KEY[:-1].replace('s0', 's1')}1 --out model", "has no encoder.safetensors; it is FINISHED", 4),
    M(f"export done {KEY} --out model --format tflite", "'tflite' is not one of 'timm', 'torchscript', 'onnx'"),
    M(f"score done {KEY} nowhere", "nowhere: no such file or folder"),
    M(f"score done {KEY} void", "void: no images (.avif, .bmp,"),
    M(f"score done {KEY} afile --by distance", "none of 1 image(s) can be decoded"),
    M(f"score done {KEY} parts --out x.txt", "file in a folder that exists"),
    M(f"score done {KEY} parts --by guess", "'guess' is not one of 'probe', 'distance'"),
]
REFUSED = "Connection refused"
RUN = "run good.yaml train.epochs=2"
SERVICES = [
    M(f"{RUN} --address 127.0.0.1:9", f"Ray at 127.0.0.1:9 cannot be used: {REFUSED}; check the address", 6),
    M(f"{RUN} --address 127.0.0.1:99999", "127.0.0.1:99999: expected HOST:PORT, e.g. 10.0.0.5:6379, or auto, or local"),
    M(f"{RUN} --address head", "--address head: expected HOST:PORT"),
    M(f"{RUN} --address http://127.0.0.1:8265", "this is the dashboard, which takes a study with --detach"),
    M("run good.yaml --detach", "--address (none): --detach needs the dashboard, http://HOST:8265"),
    M("run good.yaml --detach --address 127.0.0.1:6379", "--detach needs the dashboard, http://HOST:8265"),
    M("run good.yaml --detach --address http://127.0.0.1:9", f"Ray at http://127.0.0.1:9 cannot be used: {REFUSED}", 6),
    M("run good.yaml --detach --address http://h:1 --tracking-uri http://u:p@h:1", "would read its password"),
    M("sync done --tracking-uri http://127.0.0.1:9", f"MLflow at http://127.0.0.1:9 does not answer ({REFUSED})", 6),
    M("sync done --tracking-uri htp://127.0.0.1:5000", "htp://127.0.0.1:5000: MLflow cannot log there; give http://HOST"),
    M(f"{RUN} --tracking-uri ftp://x", "--tracking-uri ftp://x: MLflow cannot log there"),
    M("sync done --tracking-uri 127.0.0.1:5000", "(did you mean 'http://127.0.0.1:5000'?)"),
    M("sync done --tracking-uri http://", "--tracking-uri http://: names no host and port; give http://HOST:5000"),
    M("sync done --tracking-uri sqlite://x.db", "a SQLite address has three slashes: sqlite:///x.db"),
    M("ui --tracking-uri ftp://y", "--tracking-uri ftp://y: MLflow cannot log there"),
    M("ui --port 70000", "'--port': must be less than or equal to 65535; see: ablation ui --help"),
]
CATALOGUE = [*STUDY_FILES, *FIELDS, *PLANS, *ARGUMENTS, *PYTHON_FILES, *DATA, *STORES, *MODELS, *SERVICES]
