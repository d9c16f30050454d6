"""Training and measuring models that label moments."""
