"""The bundled CNN's own training."""
