"""Pure array functions on masks."""
