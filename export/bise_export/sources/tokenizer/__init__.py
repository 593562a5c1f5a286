"""Tokenizers and chat formats of checkpoints, written into a bundle's `tokenizer/` folder."""
