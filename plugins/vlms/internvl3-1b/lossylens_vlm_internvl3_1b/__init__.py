"""InternVL3-1B as a VLM of lossylens."""
