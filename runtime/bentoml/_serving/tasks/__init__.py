"""Tasks: requests that are answered with an id at once, run later, and keep their response."""
