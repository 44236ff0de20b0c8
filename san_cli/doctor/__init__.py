"""`san doctor`: whether san works on this machine, and if not, which part of it and the way out."""
