"""Losses as pure functions; each names the equation that it is."""
