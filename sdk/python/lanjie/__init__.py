"""Client for counters that check subjects against serious-dishonesty lists."""
