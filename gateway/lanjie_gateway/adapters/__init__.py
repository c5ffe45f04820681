"""Everything that touches disk, database, sockets or processes."""
