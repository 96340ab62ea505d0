"""`worldplan diagnose`: how far recorded episodes are from a Gaussian world."""
