"""How Sphinx builds the documentation (``make docs``): Markdown by MyST, the theme is furo."""

from mptcplab import __version__

project = "mptcplab"
author = "the mptcplab authors"
copyright = "2026, the mptcplab authors"  # noqa: A001 (Sphinx's name)
release = version = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["tutorial/*.toml"]
myst_heading_anchors = 4  # links to headings, as repositories make them
nitpicky = True

html_theme = "furo"
html_title = "mptcplab"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "default"
