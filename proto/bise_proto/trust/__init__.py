"""Whom a bundle is from: keys, signatures, and what a signature covers. Needs more than the base installs."""
