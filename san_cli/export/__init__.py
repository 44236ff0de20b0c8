"""`san export`: a model and a vocabulary for programs without PyTorch."""
