"""What the tables of docs/benchmarks.md come from: `python -m experiments.benchmarks.NAME`."""
