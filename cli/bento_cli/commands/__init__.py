"""One module for each command: arguments → a call into the library → what to print."""
