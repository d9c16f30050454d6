"""Training of the bundled CNN by knowledge distillation."""
