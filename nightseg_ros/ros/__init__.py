"""The node: topics, parameters, lifecycle."""
