"""One graph of two services, Caller and Callee, written for each of those that `make bench` compares."""
