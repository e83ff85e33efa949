"""One document, three formats: each renderer is a function from the document to the text of its file."""

from __future__ import annotations

from collections.abc import Callable

from ablation.analysis.document import Document
from ablation.analysis.render import html, latex, markdown

ALL: dict[str, Callable[[Document], str]] = {"html": html.render, "md": markdown.render, "tex": latex.render}
"""By the ending of ``report.*``."""
