"""The contracts between bise's parts: messages, services and the bundle on disk."""
