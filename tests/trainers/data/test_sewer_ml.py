"""The Sewer-ML reader: columns by name, labels, images in zips or folders, messages for broken tables."""

from __future__ import annotations

import multiprocessing
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.data.conftest import pixels, sewer_line, write_image, write_table
from trainers.data.index import CorruptImage, DataError
from trainers.data.sewer_ml import CODES, COLUMNS, SewerML

OPTIONS = SewerML.Options()


def write_zip(path: Path, numbers: list[int], folder: str = "", method: int = zipfile.ZIP_STORED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for number in numbers:
            write_image(path.parent / ".part.png", number)
            archive.write(path.parent / ".part.png", f"{folder}{number:08d}.png")
    (path.parent / ".part.png").unlink()


def test_labels_are_the_defect_column_and_water_level_frames_are_normal(sewer_root: Path) -> None:
    index = SewerML(str(sewer_root), OPTIONS).index
    assert index.labels.tolist() == [0, 0, 1, 1, 0, 1]
    assert index.splits.tolist() == ["train"] * 4 + ["val"] * 2
    assert index.defect_types.tolist() == ["", "", "RB", "BE", "", "FS"]  # highest importance weight present
    assert index.codes is not None
    assert index.codes[2].tolist() == [int(code in ("RB", "OB", "AF")) for code in CODES]


def test_columns_are_found_by_name_in_any_order_and_may_be_missing(sewer_root: Path) -> None:
    want = SewerML(str(sewer_root), OPTIONS).index
    for name in ("SewerML_Train.csv", "SewerML_Val.csv"):
        lines = [line.split(",") for line in (sewer_root / name).read_text().splitlines()]
        kept = [column for column in range(len(COLUMNS)) if COLUMNS[column] not in ("ND", "VA", "WaterLevel")][::-1]
        text = "\r\n".join(",".join(line[c] for c in kept) for line in lines)
        (sewer_root / name).write_text("\ufeff" + text + "\r\n")
    assert SewerML(str(sewer_root), OPTIONS).index.digest == want.digest


def test_tables_without_codes_give_the_type_defect_and_no_codes(sewer_root: Path) -> None:
    write_table(sewer_root / "SewerML_Train.csv", ["00000001.png,0", "00000003.png,1"], "Filename,Defect")
    write_table(sewer_root / "SewerML_Val.csv", ["00000005.png,0", "00000006.png,1"], "Filename,Defect")
    index = SewerML(str(sewer_root), OPTIONS).index
    assert index.codes is None
    assert index.defect_types.tolist() == ["", "defect", "", "defect"]


def test_the_test_split_has_no_labels_where_they_are_withheld(sewer_root: Path) -> None:
    write_table(sewer_root / "SewerML_Test.csv", ["00000007.png", "00000008.png"], "Filename")
    index = SewerML(str(sewer_root), OPTIONS).index
    assert index.labels[index.splits == "test"].tolist() == [-1, -1]
    assert index.defect_types[index.splits == "test"].tolist() == ["", ""]


@pytest.mark.parametrize(("line", "message"), [
    (sewer_line(9, ND=1).replace("00000009", "00000001"), "Train.csv:6: Filename: '00000001.png' already stands in"),
    (sewer_line(9, Defect=2), "SewerML_Train.csv:6: Defect: got '2', expected 0 or 1"),
    (sewer_line(9).replace(",0,", ",x,"), "SewerML_Train.csv:6: RB: got 'x', expected 0 or 1"),
    (sewer_line(9)[:-2], "SewerML_Train.csv:6: 21 fields, the header has 22"),
    (sewer_line(9)[:-1], "SewerML_Train.csv:6: Defect: got '', expected 0 or 1"),
])
def test_a_broken_line_is_named_by_file_line_and_fix(sewer_root: Path, line: str, message: str) -> None:
    with (sewer_root / "SewerML_Train.csv").open("a") as table:
        table.write(line + "\n")
    with pytest.raises(DataError) as caught:
        SewerML(str(sewer_root), OPTIONS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_tables_and_columns_are_data_errors(sewer_root: Path) -> None:
    write_table(sewer_root / "SewerML_Val.csv", ["00000005.png,0"], "Filename,Defekt")
    with pytest.raises(DataError, match=r"SewerML_Val.csv:1: no column Defect; rename 'Defekt'"):
        SewerML(str(sewer_root), OPTIONS)
    (sewer_root / "SewerML_Val.csv").unlink()
    with pytest.raises(DataError, match=r"SewerML_Val.csv: missing"):
        SewerML(str(sewer_root), OPTIONS)
    with pytest.raises(DataError, match="no such folder"):
        SewerML(str(sewer_root / "nowhere"), OPTIONS)


def test_images_come_from_several_zips_and_from_folders(sewer_root: Path) -> None:
    write_zip(sewer_root / "train00.zip", [1, 2])
    write_zip(sewer_root / "archives" / "train01.zip", [3], "deep/er/", zipfile.ZIP_DEFLATED)
    write_image(sewer_root / "images" / "00000004.png", 4)
    write_image(sewer_root / "val" / "part" / "00000005.png", 5)
    write_image(sewer_root / "00000006.png", 6)
    dataset = SewerML(str(sewer_root), OPTIONS)
    for position, number in enumerate([1, 2, 3, 4, 5, 6]):
        np.testing.assert_array_equal(dataset.load(position), pixels(number))


def _load_into(dataset: SewerML, queue: multiprocessing.SimpleQueue[bytes]) -> None:
    queue.put(dataset.load(1).tobytes())


def test_open_archives_survive_threads_fork_and_pickle(sewer_root: Path) -> None:
    write_zip(sewer_root / "all.zip", [1, 2, 3, 4, 5, 6])
    dataset = SewerML(str(sewer_root), OPTIONS)
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda n: dataset.load(n % 6), range(300)))
    assert all(np.array_equal(image, pixels(n % 6 + 1)) for n, image in enumerate(loaded))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).load(0), pixels(1))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_load_into, args=(dataset, queue))
    child.start()
    assert queue.get() == pixels(2).tobytes()
    child.join()


def test_missing_and_damaged_images_are_corrupt_only_when_loaded(sewer_root: Path) -> None:
    write_zip(sewer_root / "all.zip", [1, 2, 3])
    content = bytearray((sewer_root / "all.zip").read_bytes())
    content[content.index(b"00000002.png") + 200] ^= 0xFF
    (sewer_root / "all.zip").write_bytes(content)
    write_image(sewer_root / "images" / "00000004.png", 4)
    (sewer_root / "images" / "00000004.png").write_bytes((sewer_root / "images" / "00000004.png").read_bytes()[:100])
    dataset = SewerML(str(sewer_root), OPTIONS)
    np.testing.assert_array_equal(dataset.load(0), pixels(1))
    for position, why in ((1, "checksum"), (3, "cannot be decoded"), (4, "file is missing")):
        with pytest.raises(CorruptImage, match=why) as caught:
            dataset.load(position)
        assert caught.value.image_id == f"0000000{position + 1}.png"


def test_a_zip_bomb_is_a_corrupt_image(sewer_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.data.archives.MAX_FILE_BYTES", 1 << 16)
    with zipfile.ZipFile(sewer_root / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("00000001.png", bytes(1 << 20))
    with pytest.raises(CorruptImage, match="unpacks to more than"):
        SewerML(str(sewer_root), SewerML.Options()).load(0)


def test_a_truncated_archive_is_named(sewer_root: Path) -> None:
    write_zip(sewer_root / "all.zip", [1, 2, 3])
    (sewer_root / "all.zip").write_bytes((sewer_root / "all.zip").read_bytes()[:300])
    with pytest.raises(DataError, match=r"all\.zip: not a readable zip archive"):
        SewerML(str(sewer_root), OPTIONS).load(0)


def test_ir_dev_reads_the_same_under_both_headers_and_as_class_folders(ir_dev: Path) -> None:
    from trainers.data.folder import Folder

    plain = SewerML(str(ir_dev / "sewerml"), OPTIONS)
    other = SewerML(str(ir_dev / "sewerml"), SewerML.Options(tables="alt_header"))
    assert plain.index.digest == other.index.digest
    folder = Folder(str(ir_dev / "imagefolder"), Folder.Options())
    counts = [[len(data.index.where(split, label)) for split in ("train", "val") for label in (0, 1)]
              for data in (plain, folder)]
    assert counts[0] == counts[1]
    assert counts[0] == [1600, 1601, 400, 399]
    assert plain.load(7).shape == (40, 24, 3)
