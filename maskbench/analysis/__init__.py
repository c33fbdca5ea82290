"""What masks look like: their geometry, and what of it random masks would show; no torch."""
