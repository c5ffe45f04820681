"""A case system with one step."""
