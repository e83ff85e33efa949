"""Images by file, folder, pattern and table, each once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ablation.errors import DataError
from ablation.image_lists import list_images


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.png", "deep/er/b b.JPG", "deep/ü.tif", "deep/.hidden.png", "deep/notes.txt", "c[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_way_to_name_images(place: Path) -> None:
    def names(*places: str) -> list[str]:
        return [image.name for image in list_images(places)]

    assert names("deep") == ["deep/er/b b.JPG", "deep/ü.tif"]
    assert names("c[1].png", "a.png", ".", "deep/**/*.tif") == ["c[1].png", "a.png", "deep/er/b b.JPG", "deep/ü.tif"]
    assert names("deep/**/*.*") == ["deep/er/b b.JPG", "deep/notes.txt", "deep/ü.tif"]
    (place / "deep" / "list.csv").write_text("label,path\n0,ü.tif\n1,../a.png\n1,\n")
    pd.DataFrame({"path": ["er/b b.JPG"]}).to_parquet(place / "deep" / "list.parquet")
    found = list_images(["deep/list.csv", "deep/list.parquet"])
    assert [image.name for image in found] == ["ü.tif", "../a.png", "er/b b.JPG"]
    assert [image.file.resolve().name for image in found] == ["ü.tif", "a.png", "b b.JPG"]


@pytest.mark.parametrize(("word", "message"), [
    ("nowhere", "nowhere: no such file or folder"), ("*.webp", r"\*.webp: nothing matches"),
    ("empty", r"empty: no images \("), ("other.csv", r"no column 'path' \(did you mean 'Path'\?\); it has Path, label"),
    ("broken.parquet", "broken.parquet: cannot be read")])
def test_what_is_not_there_is_said(place: Path, word: str, message: str) -> None:
    (place / "empty").mkdir()
    (place / "other.csv").write_text("Path,label\na.png,0\n")
    (place / "broken.parquet").write_text("no")
    with pytest.raises(DataError, match=message):
        list_images([word])
