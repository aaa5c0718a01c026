"""Published results of the compressed-image VLM benchmark."""
