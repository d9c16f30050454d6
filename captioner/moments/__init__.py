"""Labels for every moment of a video."""
