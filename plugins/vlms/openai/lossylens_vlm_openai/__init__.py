"""Models behind any server with the OpenAI chat interface."""
