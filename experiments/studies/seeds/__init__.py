"""Many small networks trained side by side."""
