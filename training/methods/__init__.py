"""One training method per file."""
