"""Qwen2.5-VL-7B-Instruct as a VLM of lossylens."""
