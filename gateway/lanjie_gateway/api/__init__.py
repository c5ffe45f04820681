"""gRPC: messages in, services called, errors translated."""
