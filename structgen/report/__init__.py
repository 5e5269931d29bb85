"""A run as a page: ranked table, 3-D view, PAE, alignments and scores in one file that needs no network. Reads files; runs nothing."""

from structgen.report.write import Written, write_folder, write_page

__all__ = ["Written", "write_folder", "write_page"]
