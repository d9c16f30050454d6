"""Labels and clips -> batches."""
