"""Replay a drive and report how good and how fast the masks are."""
