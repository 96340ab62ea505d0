"""`worldplan verify` and `dose`: Theorem 4 on random problems and on pixels, and the mistakes it must reject."""
