"""Which tensor is stored how, and the arithmetic of storing it."""
