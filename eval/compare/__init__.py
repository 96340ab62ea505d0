"""`worldplan compare`: encoders ranked by the cost of control from their latents."""
