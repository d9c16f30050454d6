"""Frames -> features: the CNNs."""

from .backbones import BUNDLED, PRETRAINED, Backbone, load_backbone, load_weights

__all__ = ["BUNDLED", "PRETRAINED", "Backbone", "load_backbone", "load_weights"]
