"""Scores, predictions and what they are written to: the papers' protocol, and released models."""
