"""What runs a caption model, and what ships it."""
