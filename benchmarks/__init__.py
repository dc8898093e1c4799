"""What is measured, and against what: docs/benchmarks.md."""
