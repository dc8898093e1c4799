"""What OpenAI's clients send."""
