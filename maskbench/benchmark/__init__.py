"""Benchmarks: files that plan many runs, and what carries them out, here or on a cluster."""
