"""What is said of both models beside the comparisons: how answers ended, samples, perplexities, memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetune_exe.domain.evaluation import Generation, Memorisation, Perplexity, Sample, WindowPolicy
from finetune_exe.domain.plan import Plan
from finetune_exe.evaluation.collapse import loops_at_end
from finetune_exe.evaluation.likelihood import RowLikelihoods
from finetune_exe.evaluation.measure import Measured
from finetune_exe.evaluation.memorisation import canary_cards, memorisation_card
from finetune_exe.evaluation.perplexity import DocumentLoss, perplexity_of
from finetune_exe.evaluation.questions import Questions, last_question, spread_evenly
from finetune_exe.models.generate import Answer
from finetune_exe.prepared.store import StoredRow
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer


def generation_of(plan: Plan, before: list[Answer], after: list[Answer], tokenizer: ChatTokenizer) -> Generation | None:
    """Say how answers were produced, and how they ended; None where none was."""
    if not after:
        return None
    return Generation(
        num_rows=len(after),
        max_new_tokens=plan.evaluation.max_new_tokens,
        stop_tokens=tokenizer.stop_tokens,
        baseline_stop_rate=sum(answer.stopped for answer in before) / len(before),
        candidate_stop_rate=sum(answer.stopped for answer in after) / len(after),
        baseline_loop_rate=sum(loops_at_end(answer.text) for answer in before) / len(before),
        candidate_loop_rate=sum(loops_at_end(answer.text) for answer in after) / len(after),
        baseline_tokens=sum(answer.num_tokens for answer in before) / len(before),
        candidate_tokens=sum(answer.num_tokens for answer in after) / len(after),
    )


def samples_of(
    plan: Plan, rows: Sequence[StoredRow], questions: Questions, before: list[Answer], after: list[Answer]
) -> tuple[Sample, ...]:
    """Show some rows answered by both models, spread evenly."""
    samples = []
    for position in spread_evenly(len(questions.rows), plan.evaluation.num_samples):
        row = rows[questions.rows[position]]
        samples.append(Sample(
            row=questions.rows[position],
            source=row.source,
            prompt=last_question(questions.conversations[position]),
            reference=questions.references[position],
            baseline=before[position].text,
            candidate=after[position].text,
        ))  # fmt: skip
    return tuple(samples)


def perplexities_of(
    plan: Plan, lengths: Sequence[int], rows: Sequence[StoredRow], before: RowLikelihoods, after: RowLikelihoods
) -> tuple[Perplexity, ...]:
    """Give the figures of the whole texts of the test rows, as the template renders them; each fits into one window."""
    policy = WindowPolicy(context=plan.data.max_length, stride=plan.data.max_length, begins_with_bos=False)
    words = sum(len(m.content.split()) for row in rows for m in from_json(row.conversation).messages)
    found = []
    for side in (before, after):
        together = DocumentLoss(
            nll=math.fsum(side.text_nll_R), num_tokens=sum(lengths) - len(lengths), num_words=words,
            num_bytes=int(side.text_bytes_R.sum()),
        )  # fmt: skip
        figures = perplexity_of([together], policy)
        if figures is None:
            return ()
        found.append(figures.model_copy(update={"num_documents": len(rows)}))
    return tuple(found)


def memorisation_of(before: Measured, after: Measured) -> Memorisation | None:
    """Say what comes back of the training rows, of planted secrets and of personal data."""
    card = memorisation_card(
        train=after.extracted_train, train_under_base=before.extracted_train, held_out=after.extracted_held_out,
        canaries=canary_cards(after.canaries, after.canary_ranks, before.canary_ranks),
    )  # fmt: skip
    if card is None or not after.wrote_personal:
        return card
    share, under_base = (sum(side.wrote_personal) / len(side.wrote_personal) for side in (after, before))
    return card.model_copy(update={
        "num_personal": len(after.wrote_personal), "extracted_personal": share,
        "extracted_personal_baseline": under_base,
    })  # fmt: skip
