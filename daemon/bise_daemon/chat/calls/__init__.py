"""Calls in an answer: how models write them, and how they are read as they come."""
