"""Qwen2.5-VL-32B-Instruct as a VLM of lossylens."""
