"""Prompts known before anyone asks: named in the settings, computed at load, kept on disk."""
