"""CLIP (arXiv:2103.00020) over transformers, for adaptors and codecs that look through it.

:mod:`~.checkpoint` says what of a checkpoint is missing and imports no torch; :mod:`~.model`
loads one, and has its image encoder, embeddings, class token attention and class vectors.
"""
