"""Labelled clips to a model."""
