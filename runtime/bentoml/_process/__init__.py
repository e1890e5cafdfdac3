"""The processes of one service: a supervisor, and the workers it keeps alive."""
