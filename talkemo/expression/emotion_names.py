"""The names of the emotions; imports nothing, so that options can list them."""

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
