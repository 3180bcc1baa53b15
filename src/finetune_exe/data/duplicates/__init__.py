"""Duplicates, leaks between splits, and benchmark items among the training rows.

All of it works on `RowWords`: about 4 bytes a word, whatever the texts were. They are made in batches, in worker
processes where there are some, and put together once:

    parts = [words_of_rows([row_text(conversation) for conversation in batch]) for batch in batches]
    rows = join_rows(parts)
    duplicates = find_duplicates(rows)
    for pair in duplicates.near:
        pair.index, pair.of_index, pair.similarity  # row, the earlier row it repeats, how much they share
    for leak in find_leaks(train_rows, validation_rows):
        leak.index, leak.of_index, f"leak_{leak.kind}"  # row of validation, row of training, what was seen

    for hit in BenchmarkIndex.read(["benchmarks/"]).find(train_rows):
        hit.index, hit.benchmark, hit.line, hit.mode  # row of training, file and line of the item, how it was found

`duplicates.near` is sure (similarity at or above the threshold), `duplicates.edited` is likely and worth a look.
`duplicates.clusters` names for each row the first of those it repeats, so that a split can keep them together.
"""
