"""What the gateway does, free of transport."""
