"""How fast, against what else, on the same work: `python -m benchmarks --help`."""
