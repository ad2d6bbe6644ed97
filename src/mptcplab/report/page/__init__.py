"""One self-contained HTML file of runs, comparisons and captures, to look at and to mail.

A page is made of parts (`document.Part`): what ``run`` and ``comparison`` make of results on the
disk, and what others make of theirs.  A part is markup that says everything that is a number, and
plots (`plots`) that ``assets/page.js`` draws with uPlot, with one time cursor for all.

The file loads nothing, and what it runs is known: its content security policy allows the style and
the script of this package alone, by their hashes.  Texts of runs and captures reach it as text:
escaped in markup, and as JSON in blocks that no browser executes.
"""
