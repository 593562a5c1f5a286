"""Decoders of other exporters, with Hugging Face's inputs and outputs: read, put under bise's contract, proved."""
