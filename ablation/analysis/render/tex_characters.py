"""Text as pure ASCII LaTeX: what pdflatex cannot set becomes ``?``, so that no name or message can break a paper."""

from __future__ import annotations

import re
import unicodedata

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_\allowbreak{}",  # names are long
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    # After a line's end they would be read as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}
NAMES = {
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi": "αβγδεζηθικλμνξ",
    "pi rho varsigma sigma tau upsilon phi chi psi omega": "πρςστυφχψω",
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega": "ΓΔΘΛΞΠΣΥΦΨΩ",
    "pm times cdot div leq geq neq approx equiv sim infty": "±×·÷≤≥≠≈≡∼∞",
    "rightarrow leftarrow leftrightarrow uparrow downarrow Rightarrow": "→←↔↑↓⇒",
    "sum prod partial in notin cup cap subset forall exists propto": "∑∏∂∈∉∪∩⊂∀∃∝",
    "bullet blacklozenge checkmark circ ast sqrt{\\,}": "●◆✓∘∗√",
}
MATH = {c: f"$\\{name}$" for names, chars in NAMES.items() for name, c in zip(names.split(), chars, strict=True)}
OTHER = {
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "•": r"\textbullet{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "°": r"\textdegree{}",
    "µ": r"$\mu$",
    "§": r"\S{}",
    "©": r"\textcopyright{}",
    "€": r"\texteuro{}",
    "½": r"$\frac{1}{2}$",
    "⚠": "!",
    "\u00a0": "~",
    "\u2009": r"\,",
    "\u202f": r"\,",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0308\u0304\u0307\u0306\u030a\u030c\u030b\u0327\u0328", "`'^~\"=.urvHck", strict=True)
)
RAISED = {c: str(i) for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {"⁻": "$-$"}
LOWERED = {c: str(i) for i, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}


def escape(text: str) -> str:
    """Every character by itself, then the pairs that fonts join (``--``, ``,,``) kept apart."""
    return "".join(map(_character, re.sub(r"([-,'])(?=\1)", "\\1\u200b", text)))


def escape_code(text: str) -> str:
    """For ``\\texttt``: straight quotes, and line breaks allowed after the joints of names."""
    straight = r"\textquotesingle{}".join(map(escape, text.split("'")))
    return re.sub(r"([-/](?=[\w\\])|[.,:=](?=[A-Za-z]))", r"\1\\allowbreak{}", straight)


def _character(c: str) -> str:
    if c == "\u200b":
        return "{}"
    for known in (SPECIAL, MATH, OTHER):
        if c in known:
            return known[c]
    if c in RAISED:
        return rf"\textsuperscript{{{RAISED[c]}}}"
    if c in LOWERED:
        return rf"\textsubscript{{{LOWERED[c]}}}"
    if " " <= c <= "~":
        return c
    base, marks = (parts := unicodedata.normalize("NFD", c))[0], parts[1:]
    if marks in ACCENTS and base.isascii() and base.isalpha():
        # A dotless letter under an accent, else both would show.
        return rf"\{ACCENTS[marks]}{{{base if base not in 'ij' else chr(92) + base}}}"
    return "?"
