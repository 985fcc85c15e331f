"""Proximal operators of this and other libraries against minimizers in 50 digits."""
