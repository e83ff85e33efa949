"""open_dataset, and the folder, table and digits readers."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainers.data.conftest import pixels, write_image
from trainers.config import ConfigError, DataConfig, ImbalanceConfig
from trainers.data import DATASETS, open_dataset
from trainers.data.digits import Digits
from trainers.data.folder import Folder
from trainers.data.imbalance import select_subset
from trainers.data.index import CorruptImage, DataError
from trainers.data.table import Table


def folder(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        write_image(root / name, number)
    return root


def table(path: Path, text: str) -> Table:
    path.write_text(text)
    return Table(str(path), Table.Options())


def test_every_listed_reader_has_a_summary() -> None:
    assert set(DATASETS) == {"sewer-sim", "sewer-ml", "folder", "table", "digits"}
    assert all(len(reader.summary) > 20 for reader in DATASETS.values())


@pytest.mark.parametrize(("config", "message"), [
    (DataConfig(dataset="sewer_ml"), r"data.dataset: unknown data set 'sewer_ml' \(did you mean 'sewer-ml'\?\)"),
    (DataConfig(dataset="folder"), "data.root: 'folder' needs"),
    (DataConfig(dataset="digits", options={"anomly": 3}), r"data.options.anomly: unknown field .*'anomaly'"),
    (DataConfig(dataset="digits", options={"anomaly": 11}), "data.options.anomaly: must be a digit"),
])
def test_wrong_settings_name_the_field_and_the_fix(config: DataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_dataset(config)


def test_folder_names_are_the_defect_types(tmp_path: Path) -> None:
    folder(tmp_path, "train/Normal/a.png", "train/crack/x/y/b.PNG", "train/crack/note.txt.png",
           "valid/0/c.png", "valid/crack/d.png")
    (tmp_path / "train" / "crack" / "notes.txt").write_text("not an image")
    index = Folder(str(tmp_path), Folder.Options()).index
    assert dict(zip(index.ids.tolist(), index.defect_types.tolist(), strict=True)) == {
        "train/Normal/a.png": "", "train/crack/x/y/b.PNG": "crack", "train/crack/note.txt.png": "crack",
        "valid/0/c.png": "", "valid/crack/d.png": "crack"}
    assert set(index.splits.tolist()) == {"train", "val"}


def test_mvtec_layout_has_no_training_defects_and_says_so_when_a_level_is_cut(tmp_path: Path) -> None:
    folder(tmp_path, *(f"train/good/{n}.png" for n in range(30)), "test/good/0.png", "test/hole/0.png",
           "ground_truth/hole/0_mask.png")
    index = Folder(str(tmp_path), Folder.Options()).index
    assert len(index) == 32
    with pytest.raises(DataError, match="30"):
        select_subset(index, 0.1, 0, ImbalanceConfig())


@pytest.mark.parametrize(("names", "message"), [
    (["train/normal/a.png"], r"no folder val/ or test/; create val/normal"),
    (["val/normal/a.png"], "no folder train/; create train/normal"),
    (["train/a.png", "val/normal/a.png"], "train: no class folder; create train/normal"),
    (["train/crack/a.png", "val/normal/a.png"], "train: no normal class"),
    (["train/normal/a.png", "val/normal/a.png", "val/crack/"], "crack: no images"),
])
def test_a_folder_that_cannot_work_says_what_to_create(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else write_image(tmp_path / name, 0)
    with pytest.raises(DataError, match=message):
        Folder(str(tmp_path), Folder.Options())


def test_class_folders_without_a_split_are_cut_by_hash(tmp_path: Path) -> None:
    folder(tmp_path, *(f"good/{n}.png" for n in range(60)), *(f"tiefer Kratzer/{n}.png" for n in range(40)),
           "__MACOSX/x/1.png", "ground_truth/x/1.png")
    index = Folder(str(tmp_path), Folder.Options()).index
    assert len(index) == 100
    assert set(index.defect_types.tolist()) == {"", "tiefer Kratzer"}
    assert 70 <= (index.splits == "train").sum() <= 90
    half = Folder(str(tmp_path), Folder.Options(train_share=0.5)).index
    assert set(half.ids[half.splits == "train"]) < set(index.ids[index.splits == "train"])  # a larger share keeps all


def test_a_train_share_takes_defects_of_mvtecs_test_split_into_train(tmp_path: Path) -> None:
    folder(tmp_path, *(f"train/good/{n}.png" for n in range(30)), *(f"test/hole/{n}.png" for n in range(30)))
    assert not len(Folder(str(tmp_path), Folder.Options()).index.where("train", 1))
    index = Folder(str(tmp_path), Folder.Options(train_share=0.6)).index
    assert len(index.where("train", 1)) >= 10
    assert len(index.where("val", 1)) >= 5
    with pytest.raises(ConfigError, match=r"data\.options\.train_share: must lie between 0 and 1, got 1"):
        Folder(str(tmp_path), Folder.Options(train_share=1.0))


def test_the_folder_inside_is_named_where_an_archive_has_one_of_its_own(tmp_path: Path) -> None:
    folder(tmp_path, "parts/good/1.png", "parts/crack/1.png")
    with pytest.raises(DataError, match=r"no folder train/; did you mean data\.root: .*parts\?"):
        Folder(str(tmp_path), Folder.Options())


def test_a_file_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    folder(tmp_path, "good/1.png", "crack/1.png")
    os.rename(tmp_path / "good" / "1.png", os.fsencode(tmp_path / "good") + b"/caf\xe9.png")
    with pytest.raises(DataError, match="its name is not UTF-8; rename it"):
        Folder(str(tmp_path), Folder.Options())


def test_a_table_of_a_spreadsheet_with_semicolons_and_accents_in_one_piece(tmp_path: Path) -> None:
    write_image(tmp_path / unicodedata.normalize("NFD", "Größe 1.png"), 1)
    for delimiter in ";\t":
        text = f"\ufeffpath{delimiter}label{delimiter}split\nGröße 1.png{delimiter}defect{delimiter}train\n"
        np.testing.assert_array_equal(table(tmp_path / "t.csv", text).load(0), pixels(1))


def test_table_paths_are_relative_to_the_file_and_columns_may_come_in_any_order(tmp_path: Path) -> None:
    write_image(tmp_path / "sub" / "a.png", 1)
    text = "label,path,split,defect_type\ndefect,sub/a.png,train,crack\n0,b.png,val,\n,c.png,test,\n"
    data = table(tmp_path / "t.csv", text)
    np.testing.assert_array_equal(data.load(0), pixels(1))
    assert data.index.labels.tolist() == [1, 0, -1]
    assert data.index.defect_types.tolist() == ["crack", "", ""]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    write_image(tmp_path / "secret.png", 1)
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "a.png").symlink_to(tmp_path / "secret.png")
    data = table(inside / "t.csv", "path,label,split\na.png,0,train\n")
    with pytest.raises(CorruptImage, match="leads out of the folder"):
        data.load(0)


def test_table_without_split_keeps_groups_together_and_about_80_percent_in_train(tmp_path: Path) -> None:
    lines = "".join(f"{n}.png,{n % 2},pipe{n // 4}\n" for n in range(2000))
    index = table(tmp_path / "t.csv", "path,label,group\n" + lines).index
    for group in np.unique(index.groups):
        assert len(set(index.splits[index.groups == group])) == 1
    assert 0.75 < (index.splits == "train").mean() < 0.85


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    text = table(tmp_path / "t.csv", "path,label,split\na.png,0,train\nb.png,1,val\n").index
    columns = {"path": ["a.png", "b.png"], "label": [0, 1], "split": ["train", "val"]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert Table(str(tmp_path / "t.parquet"), Table.Options()).index.digest == text.digest


@pytest.mark.parametrize(("text", "message"), [
    ("path,label\na.png,0\nb.png,maybe\n", r"t.csv:3: label: got 'maybe', expected 0, 1, normal or defect"),
    ("path,label\na.png,0\nb.png\n", r"t.csv:3: 1 fields, the header has 2"),
    ("path,lable\na.png,0\n", r"t.csv:1: no column label; rename 'lable'"),
    ("path,label\na.png,0\na.png,1\n", r"t.csv:3: path: 'a.png' already stands in .*t.csv:2"),
    ("path,label,split\na.png,0,trian\n", r"t.csv:2: split: got 'trian'"),
    ("path,label,split,group\na.png,0,train,g\nb.png,0,val,g\n", r"t.csv:3: group: 'g' is in val here and in train at"),
    ("path,label\n", "has no rows"),
    ("path,label\n../a.png,0\n", r"t.csv:2: path: '../a.png' leaves the folder of the table"),
    ("path,label\n/etc/a.png,0\n", r"t.csv:2: path: '/etc/a.png' leaves the folder of the table"),
])
def test_a_broken_table_names_file_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path / "t.csv", text)


def test_digits_have_one_digit_as_anomaly_and_both_splits() -> None:
    data = Digits(None, Digits.Options(anomaly=3))
    assert len(data.index) == 1797
    assert int((data.index.labels == 1).sum()) == 183
    assert 0.65 < (data.index.splits == "train").mean() < 0.75
    assert data.load(0).shape == (8, 8, 3)
    assert data.load(0).max() > 200
