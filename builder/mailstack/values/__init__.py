"""Values as a person types them: one token → its one canonical form, or the remedy."""
