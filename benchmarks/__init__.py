"""Speed compared with other libraries, measured in the same process."""
