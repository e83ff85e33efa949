"""The paper's claims, each with this study's evidence."""

from __future__ import annotations

from ablation.analysis.bundle import Bundle
from ablation.analysis.claims import claims
from ablation.analysis.document import Cell, Note, Section, Table
from ablation.analysis.formats import signed_spanned, whole, words
from ablation.analysis.sections.view import StudyView
from ablation.errors import NothingMatched


def section(view: StudyView, bundle: Bundle) -> Section | None:
    """C1 to C7 with effect, interval, n and verdict; None before anything has finished."""
    try:
        frame = claims(view.trials, view.metric)
    except NothingMatched:
        return None
    bundle.table("claims", frame)
    table = Table.from_frame("claims", "Claims of the paper and what this study says of them", frame, {
        "claim": ("Claim", words),
        "statement": ("It says", words),
        "verdict": ("Here", _verdict),
        ("claim", "effect", "lo", "hi", "n"): ("Effect", _effect),
        ("measure", "note"): ("What the effect is", _measure),
        "rule": ("Rule of the verdict", words),
    })
    note = Note("Otero, Mateus and Balestriero 2024 (arXiv 2410.04289). Only the direction of a claim can be tested: "
                "the paper's numbers are not public. C1, C2, C5, C6 and C7 stand in its abstract, C2b, C3 and C4 in "
                "summaries of it, C1b is our reading of C1. Every verdict follows from the interval by the rule beside "
                "it; intervals are 95 % each, without a correction over the claims, over seeds, for the methods, "
                "backbones and levels of this study.")
    return Section("claims", "The paper's claims in this study", (note, table))


def _verdict(verdict: object) -> Cell:
    return Cell(str(verdict), bold=verdict != "undecided")


def _effect(claim: object, effect: object, lo: object, hi: object, n: object) -> Cell:
    if claim == "C7":
        return Cell(whole(effect))
    found = signed_spanned(effect, lo, hi)
    return Cell(found.text, found.interval, (f"n = {whole(n)}",) if n else ())


def _measure(measure: object, note: object) -> str:
    return f"{words(measure)}; {words(note)}" if note else words(measure)
