"""A project, as its files and its source say it; nothing of it is imported or run."""
