"""Reports as data: on the terminal, in Markdown, as a page; figures and their style."""
