"""Its import fails."""
raise RuntimeError("this module does not load")
