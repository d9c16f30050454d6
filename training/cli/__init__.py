"""The verbs of training for the `captioner` command: a file a verb."""
