"""Bundles on this device: checked, loaded, ready to serve."""
