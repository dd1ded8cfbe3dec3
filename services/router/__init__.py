"""The router: sequences requests into `dispatched`, merges responses, compares."""
