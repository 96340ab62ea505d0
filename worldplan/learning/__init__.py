"""Encoders: network, objectives, training loop, and files."""
