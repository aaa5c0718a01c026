"""Questions about a scene, with their true answers.

Every question refers to something unique, has one right answer, and uses one of a few fixed
wordings, so that a tiny tokenizer covers them.  Yes/no questions are balanced: the answer is drawn
first and the question made to fit.  :func:`~.full_set.ask` asks of all topics.
"""
