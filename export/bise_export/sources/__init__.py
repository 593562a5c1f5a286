"""Checkpoints as they come: GGUF, Hugging Face safetensors, Mistral's own format. Nothing is ever unpickled."""
