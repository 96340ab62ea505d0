"""The laboratory: each theorem of the papers as an experiment on synthetic worlds, one command each."""
