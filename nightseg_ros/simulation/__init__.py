"""A procedural night drive with exact labels: input that needs no download."""
