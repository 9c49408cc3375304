"""Where a twin's answers and alerts go: one module for each kind of output, all with the Protocol of `output`."""
