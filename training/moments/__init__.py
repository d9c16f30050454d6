"""Training and evaluation of models that label moments (temporal action segmentation)."""
