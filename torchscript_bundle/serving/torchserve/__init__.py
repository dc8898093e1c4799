"""TorchServe: its context, its batches and continuous batching, its gRPC."""
