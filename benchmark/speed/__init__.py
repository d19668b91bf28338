"""Speed and memory, measured: `python -m benchmark.speed --help`. Benchmarks, not tests."""
