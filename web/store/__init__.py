"""All that is kept, and all SQL: videos, uploads, jobs, models, labels, sessions, events."""
