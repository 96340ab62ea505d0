"""Encoders: the network, the objectives, the training loop, and what a trained one is on disk."""
