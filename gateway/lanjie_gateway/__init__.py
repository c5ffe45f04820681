"""The gateway: keeps the lists, publishes them and answers screening calls."""
