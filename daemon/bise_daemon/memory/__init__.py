"""How much memory there is, and what may be done with it."""
