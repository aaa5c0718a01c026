"""Qwen2.5-VL-3B-Instruct as a VLM of lossylens."""
