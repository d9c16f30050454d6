"""The `captioner` command: a file a verb."""
