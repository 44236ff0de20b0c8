"""Training: from images and label maps to trained weights."""
