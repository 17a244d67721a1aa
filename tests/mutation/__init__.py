"""Mutation tests: for every small change of the core, at least one test must fail."""
