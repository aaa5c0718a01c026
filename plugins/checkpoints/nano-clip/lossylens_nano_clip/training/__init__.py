"""Training of nano-clip; needs the extra ``train``."""
