"""What an operator sees of requests: lines of the log, and spans. Never their texts."""
