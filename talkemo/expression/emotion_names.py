"""The names of the emotions; imports nothing, so that options can list them."""

AUTO_EMOTION = "auto"  # in place of an emotion: it is read from the voice
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
