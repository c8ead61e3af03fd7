"""The fields of a message's header, and what they say."""
