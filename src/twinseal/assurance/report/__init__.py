"""The report and the model card: what a reviewer reads before staking a name on a model.

    sections/    one file a section: its words, tables, figures, caveats and tiles; the page loops over them
    section      what a section is, and how the sections are found
    blocks       the frozen values that a page is made of: text, tables, figures, tiles, caveats
    tables       tables from typed measures: labels and units come from the types
    figures      the tools that sections draw with: style, lines, legends
    page         the report as one HTML file (report.html.j2, report.css)
    model_card   the model card as Markdown
    publish      all of it as files

Open a file in `sections/` first. To show a new attack, add one there.
"""
