"""Speed measurements, run by ``make bench``. Each prints a table of medians and writes JSON to ``benchmarks/out``."""
