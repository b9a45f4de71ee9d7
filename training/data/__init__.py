"""Frames and labels for training."""
