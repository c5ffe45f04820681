"""Load and races. See README.md."""
