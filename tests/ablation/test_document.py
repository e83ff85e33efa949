"""A document in three formats: whatever stands in a text, each format shows it and none is broken by it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt

from ablation.analysis.contact_sheet import Picture
from ablation.analysis.document import (
    Bullets,
    Cell,
    Code,
    Details,
    Document,
    Heading,
    Note,
    Pictures,
    Plot,
    Row,
    Section,
    Table,
    Terms,
    Text,
    code,
    plain,
    spans,
)
from ablation.analysis.formats import fixed3, p_value, signed2, signed_range, whole, words
from ablation.analysis.render import ALL
from ablation.analysis.render.tex_characters import escape, escape_code
from ablation.analysis.style import in_lines

NASTY = r"50 % of a_b & c#d $x$ {y} ~z ^w \end{document} <b>|</b> [x](y) ρ ω² ± × ≥ − → – é ł 🦉 ' \" -- ,, * # 1. 漢"
MARKDOWN = MarkdownIt("commonmark").enable("table")
COLUMNS = ("Name", "a_b", "c")


def document(*blocks: object) -> Document:
    return Document("a_title & more", "kicker", (Text("summary"),), (Section("one", "One", blocks),))  # type: ignore[arg-type]


def everything(text: str) -> Document:
    """Every kind of block, the text in each place where a text may stand."""
    cell = Cell(text, "± 0.012", (text,), (text,), bold=True)
    table = Table("t", text, COLUMNS, (Row((text, cell, "")), Row((code(text), cell, text), "supervised")), text)
    strip = Pictures(text, (Picture(text, True, text, 0.5, "data:image/jpeg;base64,AA=="),))
    inner = (Text(text), Note(text), Heading(text), Bullets((text, text)), Terms(((text, text),)), table, strip)
    plot = Plot("a_plot", text, ("<svg></svg>",))
    blocks = (*inner, plot, Pictures("none", ()), Code(text, f"  {text}\n\n{text}"), Details(text, inner))
    return Document(text, text, inner, (Section("one", text, blocks), Section("two", text, ())))


def faults_of_latex(text: str) -> list[str]:
    """What would stop or mislead pdflatex: other characters, raw special ones, braces, mathematics or environments."""
    faults, depth, math, open_environments = [], 0, False, []
    body = re.sub(r"\\includegraphics\[.*?\]\{.*?\}", "", text)
    for token in re.findall(r"\\begin\{\w+\}|\\end\{\w+\}|\\[a-zA-Z]+\*?|\\.|.", body, flags=re.DOTALL):
        if token.startswith(r"\begin{"):
            open_environments.append((token[7:-1], depth))
        elif token.startswith(r"\end{"):
            if not open_environments or open_environments.pop() != (token[5:-1], depth):
                faults.append(f"environment ends: {token}")
        elif token in "{}":
            depth += 1 if token == "{" else -1
            if depth < 0:
                faults.append("brace closes nothing")
        elif token == "$":
            math = not math
        elif (token == "&" and not any(name == "tabular" for name, _ in open_environments)) or token in "#%^_":
            faults.append(f"raw {token}")
        elif not token.isascii() or (ord(token[0]) < 32 and token != "\n"):
            faults.append(f"character {token!r}")
    return faults + ["brace left open"] * (depth != 0) + ["mathematics left open"] * math + open_environments  # type: ignore[operator]


@pytest.mark.parametrize("text", [NASTY, "", "`a_b` and **bold**", "**", "a\r\nb\x00\x1b\ud800c", "x" * 300], ids=repr)
def test_any_text_can_stand_anywhere(text: str) -> None:
    made = {name: render(everything(text)).encode(errors="replace").decode() for name, render in ALL.items()}
    assert faults_of_latex(made["tex"][made["tex"].index(r"\title") :]) == []
    assert made["tex"].isascii()
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", "".join(made.values()))
    for line in made["md"].splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4,), line
    html_blocks = [token for token in MARKDOWN.parse(made["md"]) if token.type == "html_block"]
    assert all(re.fullmatch(r'<a id="\w+"></a>', token.content.strip()) for token in html_blocks)


@given(st.text(st.characters(exclude_categories=()), max_size=60))
@settings(max_examples=300, deadline=None)
def test_latex_of_any_text_is_ascii_and_balanced(text: str) -> None:
    for made in (escape(text.replace("\n", " ")), escape_code(text.replace("\n", " "))):
        assert [fault for fault in faults_of_latex(made) if "'\\x" not in fault] == []


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60).filter(lambda text: "`" not in text))
@settings(max_examples=300, deadline=None)
def test_markdown_and_page_show_the_text_itself(text: str) -> None:
    if "**" in text:
        return
    seen = " ".join(text.split())
    made = {name: ALL[name](document(Text(text))) for name in ("md", "html")}
    last = MARKDOWN.render(made["md"]).split("<h2>1 One</h2>\n")[1].strip()
    assert html.unescape(last.removeprefix("<p>").removesuffix("</p>")) == seen
    shown = made["html"].split('<h2 id="one">1 One</h2>\n')[1].split("</main>")[0].strip()
    assert html.unescape(shown.removeprefix("<p>").removesuffix("</p>")).replace("\u00a0", " ") == seen


def test_known_characters_keep_their_meaning_in_latex() -> None:
    assert escape("ω² ± 3, ρ ≥ −1 → ×") == (
        r"$\omega$\textsuperscript{2} $\pm$ 3, $\rho$ $\geq$ $-$1 $\rightarrow$ $\times$"
    )
    assert escape("50 %_&#{}$") == r"50 \%\_\allowbreak{}\&\#\{\}\$"
    assert escape("é ñ ï Å ł 🦉 漢") == r"\'{e} \~{n} \"{\i} \r{A} \l{} ? ?"
    assert escape("–") == "--"
    assert escape("--") == "-{}-"


def test_markup_is_code_and_bold_only() -> None:
    assert spans("a `b_c` **d**  *e*\n_f_") == [("", "a "), ("code", "b_c"), ("", " "), ("bold", "d"), ("", " *e* _f_")]
    assert plain("`a` **b**") == "a b"
    assert code("a`b") == "`a'b`"
    made = {name: render(document(Text("see `a_b` and **c**"))) for name, render in ALL.items()}
    assert "see <code>a_b</code> and <strong>c</strong>" in made["html"]
    assert "see `a_b` and **c**" in made["md"]
    assert r"see \texttt{a\_\allowbreak{}b} and \textbf{c}" in made["tex"]


def test_a_table_from_a_frame() -> None:
    frame = pd.DataFrame(
        {"level": ["within", None], "n": [12, np.nan], "rho": [-0.5, np.nan], "lo": [-0.7, np.nan], "hi": [-0.1, 0.0],
         "p": [0.0001, 0.2], "kind": ["", "baseline"]}
    )  # fmt: skip
    columns = {
        "level": ("Level", words),
        "n": ("n", whole),
        "rho": ("ρ", signed2),
        ("lo", "hi"): ("95 % interval", signed_range),
        "p": ("p", p_value),
    }
    table = Table.from_frame("t", "caption", frame, columns, note="note", kind="kind")
    assert table.columns == ("Level", "n", "ρ", "95 % interval", "p")
    assert table.rows[0] == Row(("within", "12", "−0.50", "−0.70 to −0.10", "< 0.001"))
    assert table.rows[1] == Row(("", "–", "–", "–", "0.200"), "baseline")
    assert fixed3(np.int64(2)) == "2.000"
    with pytest.raises(ValueError, match="table t"):
        Table("t", "", ("a", "b"), (Row(("1",)),))


def test_latex_tables_fit_a_page() -> None:
    """Never wider than the text; long ones go on in a further table; long texts break their lines."""
    rows = tuple(Row((f"r{i}", "x" * 80, "1")) for i in range(65))
    tex = ALL["tex"](document(Table("t", "Caption", COLUMNS, rows, "the note")))
    assert tex.count(r"\begin{adjustbox}{max width=\linewidth") == tex.count(r"\toprule") == 3
    assert tex.count("Caption (continued)") == 2
    assert tex.count(r"\begin{tabular}{lL{6.5cm}l}") == 3
    assert "the note" in tex


def test_reference_rows_are_set_apart() -> None:
    rows = (Row(("own", "1", "2")), Row(("Supervised", "3", "4"), "supervised"), Row(("Random", "0", "0"), "baseline"))
    made = {name: render(document(Table("t", "c", COLUMNS, rows))) for name, render in ALL.items()}
    assert made["html"].count("first-reference\"") == 1
    assert made["md"].count("| *Supervised* |") == 1
    assert "own & 1 & 2 \\\\\n\\midrule\n\\textit{Supervised}" in made["tex"]
    assert made["tex"].count(r"\midrule") == 2


def test_long_names_are_broken_at_their_joints() -> None:
    assert in_lines("my_own_method/with-a long", 10) == "my_own_\nmethod/\nwith-a\nlong"
    assert in_lines("Barlow Twins", 22) == "Barlow Twins"
    assert max(map(len, in_lines("x" * 70, 22).split("\n"))) <= 22


def test_templates_know_every_block() -> None:
    """A new block needs a place in the page's template; the other two renderers are held by the type checker."""
    from typing import get_args

    from ablation.analysis import document as module

    template = (Path(module.__file__).parents[1] / "templates" / "report.html.j2").read_text()
    assert set(re.findall(r'is == "(\w+)"', template)) == {block.__name__ for block in get_args(module.Block)}
