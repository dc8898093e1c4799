"""What an archive says of itself: its OpenAPI document and its facts."""
