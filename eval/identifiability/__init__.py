"""How far a latent is from a rotation of the true state: every number that the theory attaches to it."""
