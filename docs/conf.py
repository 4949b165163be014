"""Sphinx's configuration of the documentation: `make docs` builds it into docs/_build/html, offline."""

import os
import sys
from pathlib import Path

import cnnjax

os.environ.setdefault(
    "JAX_PLATFORMS", "cpu"
)  # the pages need shapes, no accelerator; cnnjax imports JAX when it is used
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

project = "cnnjax"
author = "The cnnjax developers"
project_copyright = author
version = release = cnnjax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated_pages", "mathml"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "cnnjax"
html_static_path = ["static"]
html_css_files = ["style.css"]
smartquotes_action = "D"  # dashes alone: quotation marks are often Python's
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
# Opened as a file, a page may not fetch others: the search lists titles, and no excerpts that would be missing there.
html_show_search_summary = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_enable_extensions = ["deflist", "colon_fence", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3

# Docstrings are Google's style with Markdown's single backticks for code.
default_role = "literal"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
# Types in signatures: other libraries' need a network to be linked to, and ours beyond the public names have no page.
nitpick_ignore_regex = [(r"py:(class|data|exc)", r".*"), (r"py:obj", r"typing\..*")]
