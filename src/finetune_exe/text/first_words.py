"""What the learned positions of prefix tuning hold before the first step."""

FIRST_WORDS = "Here is a request, and after it a helpful, correct and complete answer, as an expert gives it.\n"
"""Repeated until the positions are full."""
