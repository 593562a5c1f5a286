"""Bundles specialised for this device: weights as its kernels pack them, in a file that is mapped, not repacked."""
