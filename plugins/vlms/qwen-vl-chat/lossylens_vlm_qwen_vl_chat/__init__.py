"""Qwen-VL-Chat, the first generation, natively in PyTorch."""
