"""`worldplan compare`: encoders ranked by what control from their latents costs."""
