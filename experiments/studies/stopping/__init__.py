"""The rule by which the paper's runs may have been stopped."""
