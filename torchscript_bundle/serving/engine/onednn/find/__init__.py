"""Find linear layers and activation functions in a frozen graph."""
