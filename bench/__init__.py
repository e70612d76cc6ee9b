"""The speed of what certd does, side by side with its peers: ``python -m bench``."""
