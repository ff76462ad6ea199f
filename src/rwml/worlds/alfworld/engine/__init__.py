"""The engine of ALFWorld: game files, read and played exactly as the official engine plays them."""
