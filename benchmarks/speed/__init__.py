"""How fast things are: made-up runs, and what takes how long on this machine."""
