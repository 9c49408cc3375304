"""The whole story, told by running it: what `make demo` and `make cmapss` do."""
