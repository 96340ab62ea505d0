"""Theorem 4, for `worldplan verify` and `dose`: tests on random problems and pixels, and mistakes they must reject."""
