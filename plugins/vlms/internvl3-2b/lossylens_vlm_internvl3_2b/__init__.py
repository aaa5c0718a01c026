"""InternVL3-2B as a VLM of lossylens."""
