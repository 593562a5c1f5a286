"""Checkpoint in, bundle out: the export toolchain."""
