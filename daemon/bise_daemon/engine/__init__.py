"""The engine: tokens in, tokens out, on one thread."""
