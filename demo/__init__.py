"""The demo model: how it is made, and its data."""
