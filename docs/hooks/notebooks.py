"""MkDocs hook: a page for every notebook, with the outputs that are stored in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in sorted(Path(config.docs_dir).glob("notebooks/*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page(path)))
    return files


def page(path: Path) -> str:
    """The cells as Markdown, below the title a link to the notebook itself."""
    cells = nbformat.read(path, as_version=4).cells
    parts = []
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [f"```python\n{cell.source}\n```", *map(_output, cell.outputs)]
        if number == 0:
            parts.append(f"[The notebook]({path.name}){{ download }}, to run it yourself.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: Any) -> str:
    """Picture, table or text of one output."""
    if output.output_type == "stream":
        return _fence(output.text)
    data = output.get("data", {})
    if "image/png" in data:
        encoded = data["image/png"].replace("\n", "")
        return f'<img alt="figure" src="data:image/png;base64,{encoded}">'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        table = re.sub("<table[^>]*>", "<table>", table)  # the theme's own style is for tables without a class
        return '<div class="output">' + re.sub(r"\s*\n\s*", " ", table).strip() + "</div>"
    return _fence(data.get("text/plain", ""))


def _fence(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
