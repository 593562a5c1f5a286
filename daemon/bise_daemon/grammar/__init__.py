"""Answers in a format: grammars, what they allow next, and how an answer is brought to an end they accept."""
