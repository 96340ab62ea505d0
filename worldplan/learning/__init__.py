"""Encoders: network, objectives, training loop, and files."""

from worldplan.llvm import settle_triton

settle_triton()  # before torch
