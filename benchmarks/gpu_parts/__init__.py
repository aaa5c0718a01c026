"""The parts of ``benchmarks/gpu.py``; each measures one thing and records it."""
