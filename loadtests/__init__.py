"""Load and races. See README.md."""

import os

# A gateway closes connections that idle, and gRPC would tell of each of them.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
