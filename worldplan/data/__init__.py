"""Files and datasets: written whole or not at all, hashed, memory-mapped."""
