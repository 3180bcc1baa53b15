"""The order of the phases: what to run after what, and which documents go from one to the next."""
