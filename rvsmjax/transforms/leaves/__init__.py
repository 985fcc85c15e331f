"""Which leaves of the parameters a transformation acts on, what their axes mean, and which rule each has."""
