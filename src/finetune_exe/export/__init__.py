"""Plans for other tools; `targets` lists them all."""
