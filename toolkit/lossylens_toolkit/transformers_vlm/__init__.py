"""For VLMs over transformers: fast exact answering, safe loading, vision access.

A plugin names a class of :mod:`~.families` as its factory and derives its options from
those of :mod:`~.vlm_options`; ``plugins/vlms/internvl3-1b`` shows it on half a page.  For
another architecture see :mod:`~.family`.  README.md explains how it works.

What a plugin needs to be listed (``options`` and ``checkpoint``) imports no torch, and
nothing else is imported here.
"""
