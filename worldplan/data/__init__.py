"""Files and datasets: whole or absent, hashed, memory-mapped."""
