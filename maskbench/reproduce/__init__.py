"""Figures of papers as files: what is claimed, what is run, and by which rule it is judged."""
