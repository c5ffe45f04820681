"""Rules only the gateway needs. Pure: no I/O, no clock, no environment."""
