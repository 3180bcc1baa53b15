"""Serve agents over the Model Context Protocol; imported by `fine-tune mcp` alone, for its SDK is slow to load."""
