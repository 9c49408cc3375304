"""Prognostics: from a fleet to windows, to a network that estimates the remaining useful life, to its checkpoint.

Importing this package imports nothing else: the twin takes `network` and `checkpoint` and never sees scikit-learn.
"""
