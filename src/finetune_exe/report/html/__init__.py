"""Reports as one page that a browser shows: it runs nothing, loads nothing, and depends on nothing but the document."""
