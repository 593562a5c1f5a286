"""Conversations that are spoken: turn after turn on one stream, computed ahead as they are heard."""
