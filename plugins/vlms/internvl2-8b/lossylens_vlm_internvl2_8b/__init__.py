"""InternVL2-8B, from its official checkpoint, as a VLM of lossylens."""
