"""Names of sets of weights; imports nothing, so that options can use them."""

DEFAULT_SET = "default"
HUB_PREFIX = "hf://"  # of the address of a set on the Hugging Face Hub
