"""A very small VLM of the Qwen2.5-VL architecture, trained on lossylens scenes."""
