"""Speed measurements, run by ``make bench``. Each prints one table with medians and writes JSON to ``benchmarks/out``."""
