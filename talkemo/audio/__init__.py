"""Audio files, streams and samples as mono samples at 16 kHz, and their log-mel bands."""

from .recording import Audio, load_audio

__all__ = ["Audio", "load_audio"]
