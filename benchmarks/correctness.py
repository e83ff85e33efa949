"""Run the proofs and write their figures to ``docs/correctness.md``.

    python -m benchmarks.correctness [REPORT.xml]        (make correctness, about 6 minutes on 2 idle cores)

The figures are the ones the tests themselves record; nothing is computed here. With the JUnit report of a whole run
(``pytest --junitxml=REPORT.xml``) the tests are not run again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.record import facts_line

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("tests/distributed", "tests/parity", "tests/golden", "tests/conformance", "tests/trainers/methods",
          "tests/trainers/test_numerics.py", "tests/trainers/evaluation", "tests/trainers/test_convolution.py")
OUT = ROOT / "docs" / "correctness.md"


class Case:
    """One test as pytest's JUnit report has it."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.suite = element.get("classname", "").removeprefix("tests.")
        self.test, _, rest = element.get("name", "").partition("[")
        self.parameters = rest.removesuffix("]").split("-")
        self.figures = {p.get("name", ""): float(p.get("value", "nan")) for p in element.iter("property")}
        self.failed = any(child.tag in ("failure", "error") for child in element)
        self.skipped = any(child.tag == "skipped" for child in element)

    @property
    def good(self) -> bool:
        return not self.failed and not self.skipped

    def figure(self, name: str) -> float:
        return self.figures.get(name, float("nan"))


def read(report: Path) -> list[Case]:
    suites = tuple(suite.removeprefix("tests/").removesuffix(".py").replace("/", ".") for suite in SUITES)
    cases = [Case(element) for element in ElementTree.parse(report).iter("testcase")]
    chosen = [case for case in cases if case.suite.startswith(suites) or not case.suite]  # a module that broke has none
    for suite in suites:
        if not any(case.suite.startswith(suite) for case in chosen):
            raise SystemExit(f"{report}: no test of tests/{suite.replace('.', '/')} is in it")
    return chosen


def run_proofs() -> list[Case]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", *SUITES,
                        f"--junitxml={report}"], cwd=ROOT, check=False,
                       stdout=sys.stderr)
        return read(report)


def rank_table(cases: list[Case]) -> Iterable[str]:
    """Largest errors over the ranks of each (method, backbone, type)."""
    yield "| method | backbone | type | ranks | loss | whole gradient | worst parameter |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for case in cases:
        if case.test == "test_ranks_equal_one_process":
            ranks, method, backbone, dtype = case.parameters
            figures = (f"{case.figure(name):.0e}" for name in ("loss", "gradient", "worst_parameter"))
            yield f"| {method} | {backbone} | {dtype} | {ranks.removesuffix('ranks')} | {' | '.join(figures)} |"


def precision_table(cases: list[Case]) -> Iterable[str]:
    yield "| method | backbone | what the method itself does | whole network |"
    yield "| --- | --- | --- | --- |"
    for case in cases:
        if "island" in case.figures:
            method, backbone = case.parameters
            yield (f"| {method} | {backbone} | {100 * case.figures['island']:.3f} % "
                   f"| {100 * case.figures['whole_network']:.1f} % |")


def parity_table(cases: list[Case]) -> Iterable[str]:
    yield "| loss | largest relative error of value and gradient |"
    yield "| --- | --- |"
    for case in cases:
        if "lightly" in case.figures:
            yield f"| {case.parameters[0]} | {case.figures['lightly']:.0e} |"


def summary_table(cases: list[Case]) -> Iterable[str]:
    yield "| suite | tests | passed | skipped |"
    yield "| --- | --- | --- | --- |"
    for suite in dict.fromkeys(case.suite for case in cases):
        here = [case for case in cases if case.suite == suite]
        skipped, good = sum(case.skipped for case in here), sum(case.good for case in here)
        yield f"| `tests/{suite.replace('.', '/')}.py` | {len(here)} | {good} | {skipped} |"


def render(cases: list[Case]) -> str:
    resumed = [case for case in cases if case.test == "test_killed_and_resumed_ends_bit_equal"]
    tables = {"ranks": rank_table, "precision": precision_table, "parity": parity_table, "summary": summary_table}
    text = (ROOT / "benchmarks" / "correctness.md.in").read_text()
    for name, table in tables.items():
        text = text.replace(f"{{{name}}}", "\n".join(table(cases)))
    text = text.replace("{resumed}", f"{sum(case.good for case in resumed)} of {len(resumed)}")
    return text.replace("{facts}", facts_line())


def main(arguments: list[str]) -> int:
    cases = read(Path(arguments[0])) if arguments else run_proofs()
    failed = [f"{case.suite}::{case.test}" for case in cases if case.failed]
    if failed:  # a document of half the proofs would say too much
        print(*[f"failed: {name}" for name in failed], sep="\n")
        return 1
    OUT.write_text(render(cases))
    print(OUT.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
