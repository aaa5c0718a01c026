"""Training of the nano VLM on scenes."""
