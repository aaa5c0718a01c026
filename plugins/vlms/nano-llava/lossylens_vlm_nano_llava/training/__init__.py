"""Training of nano-llava; needs the extra ``train``."""
