"""A very small VLM of the LLaVA architecture, trained on lossylens scenes."""
