"""What the documentation says: the fences of its pages, and the commands in them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RUN = ("sh", "python", "yaml")
SHOWN = ("text", "")
"""Languages of fences that show something and are not run."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\s*\Z")


@dataclass(frozen=True)
class Fence:
    """One block of code of a page."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str
    """Why its commands are not carried out; "" where they are."""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """The name under which the reader is to save it, by its first line; "" where there is none."""
        named = re.match(r"# ([\w-]+\.(?:yaml|py))\n", self.text)
        return named[1] if named else ""


def fences(page: Path) -> list[Fence]:
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        why = _NOT_RUN.search(before)
        body = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Fence(page, before.count("\n") + 1, match["language"], body, why["reason"] if why else ""))
    return found


def all_fences(*languages: str) -> list[Fence]:
    return [fence for page in PAGES for fence in fences(page) if fence.language in languages]


def lines(fence: Fence) -> list[str]:
    """The commands of a shell fence: joined where a line goes on, without comments."""
    whole = fence.text.replace("\\\n", " ")
    parts = [part.strip() for line in whole.splitlines() for part in re.split(r"(?:;|&&)(?=\s)", _uncommented(line))]
    return [part for part in parts if part]


def _uncommented(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line)


def words_of(line: str) -> list[str]:
    """The arguments of the ``ablation`` command in a line, [] without one; pipes, targets and names are left out."""
    inner = re.sub(r"^\w+=\$\((.*)\)$", r"\1", line)
    words = shlex.split(re.split(r"\s[>|]\s", inner)[0])
    return words[1:] if words[:1] == ["ablation"] else []


def inline_commands(page: Path) -> Iterator[list[str]]:
    """``ablation …`` between backticks in running text."""
    prose = _FENCE.sub("", page.read_text())
    for code in re.findall(r"`(ablation [^`]+)`", prose):
        with contextlib.suppress(ValueError):  # an ellipsis or a lone quote is no command
            yield words_of(code)


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Working folder, store and cache of everything inside; nothing joins a service of the machine."""
    foreign = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    ours = {"ABLATION_STORE": str(folder / "studies"), "ABLATION_CACHE": str(folder / "cache"), "ABLATION_REPORT": "0"}
    before, known = Path.cwd(), dict(os.environ)
    try:
        os.chdir(folder)
        os.environ.update(ours)
        for name in foreign:
            os.environ.pop(name, None)
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(known)
