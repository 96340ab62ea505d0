"""Worlds: what collect, fit and plan need to know of an arm, a cart or a slide, and where they come from."""
