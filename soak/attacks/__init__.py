"""What a hostile client on the network may try, one kind a file."""
