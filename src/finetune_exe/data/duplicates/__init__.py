"""Duplicates, leaks between splits, and benchmark items among the training rows.

All of it works on `RowWords`: about 4 bytes a word, whatever the texts were. They are made in batches, in worker
processes where there are some, and put together once:

    parts = [words_of_rows([row_text(conversation) for conversation in batch]) for batch in batches]
    rows = join_rows(parts)
    duplicates = find_duplicates(rows)
    duplicates.near[0].index, duplicates.near[0].of_index, duplicates.near[0].similarity
"""
