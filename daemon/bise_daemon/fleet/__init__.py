"""A fleet of devices in one file: which configuration each has, and in which order it gets another."""
