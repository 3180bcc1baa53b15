"""Translations: chrF++ of each, and chrF++ and BLEU of all, by sacrebleu over 100, with its signatures."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean


class Translations:
    """Scores translations."""

    name = "translation"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score each by chrF++; tell chrF++ and BLEU of the corpus, and the length."""
        from sacrebleu.metrics import BLEU, CHRF

        answers, references = [item.answer for item in items], [item.reference for item in items]
        chrf, bleu = CHRF(word_order=2), BLEU()
        one = CHRF(word_order=2, eps_smoothing=True)
        corpus = chrf.corpus_score(answers, [references]).score, bleu.corpus_score(answers, [references]).score
        return TaskScores(
            items={"chrf": [one.sentence_score(a, [r]).score / 100 for a, r in zip(answers, references, strict=True)]},
            figures={
                "corpus_chrf": corpus[0] / 100,
                "corpus_bleu": corpus[1] / 100,
                "length_ratio": mean([len(a) / max(1, len(r)) for a, r in zip(answers, references, strict=True)]),
            },
            notes=(str(chrf.get_signature()), str(bleu.get_signature())),
        )
