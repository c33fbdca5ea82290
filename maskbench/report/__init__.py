"""From run records to one self-contained page; no torch."""
