"""Speed and memory, measured: `python -m benchmark.lab.speed --help`. Benchmarks, not tests."""
