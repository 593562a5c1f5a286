"""The soak: a daemon under more than it can take, with callers that leave and callers that are wrong."""
