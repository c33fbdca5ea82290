"""Benchmark files: which runs are compared, and why (shipped as package data)."""
