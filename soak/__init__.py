"""Long and hostile load against whole servers: docs/soak.md."""
