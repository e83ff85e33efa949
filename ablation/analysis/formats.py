"""Numbers of frames as cells of tables; what is missing becomes a dash."""

from __future__ import annotations

import math
from numbers import Real

from ablation.analysis.document import Cell

MISSING = "–"


def number(value: object, spec: str) -> str:
    """``value`` by a format specification, with a true minus sign."""
    known = float(value) if isinstance(value, Real) else math.nan
    return format(known, spec).replace("-", "−") if math.isfinite(known) else MISSING


def fixed3(value: object) -> str:
    return number(value, ".3f")


def signed2(value: object) -> str:
    return number(value, "+.2f")


def signed3(value: object) -> str:
    return number(value, "+.3f")


def whole(value: object) -> str:
    return number(value, ",.0f")


def p_value(value: object) -> str:
    return "< 0.001" if isinstance(value, Real) and float(value) < 0.001 else fixed3(value)


def signed_range(lo: object, hi: object) -> str:
    """``+0.10 to +0.42``."""
    return f"{signed2(lo)} to {signed2(hi)}" if MISSING not in (signed2(lo), signed2(hi)) else MISSING


def words(value: object) -> str:
    """Text as it stands; missing text is empty."""
    return "" if value is None or value != value else str(value)


def interval(lo: float, hi: float, n: int, value: float | None = None) -> str:
    """``± 0.012`` for a symmetric interval, ``0.81 to 0.84`` else, nothing for n = 1."""
    if n < 2 or not (math.isfinite(lo) and math.isfinite(hi)):
        return ""
    if value is not None and abs((hi - value) - (value - lo)) < 5e-4:
        return f"± {(hi - lo) / 2:.3f}"
    return f"{lo:.3f} to {hi:.3f}"


def spanned(value: object, lo: object, hi: object) -> Cell:
    """``0.812`` with ``(0.790 to 0.831)``, or alone where there is no interval."""
    return Cell(fixed3(value), _span(fixed3(lo), fixed3(hi)))


def signed_spanned(value: object, lo: object, hi: object) -> Cell:
    """As ``spanned``, with signs."""
    return Cell(signed3(value), _span(signed3(lo), signed3(hi)))


def _span(lo: str, hi: str) -> str:
    return "" if MISSING in (lo, hi) else f"({lo} to {hi})"
