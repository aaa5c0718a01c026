"""InternVL3-8B as a VLM of lossylens."""
