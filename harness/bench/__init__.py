"""The real boards on this desk: which there are, who holds them, what to do when one goes wrong."""
