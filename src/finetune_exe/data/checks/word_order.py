"""English text whose words stand in no order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.forms import Structure
from finetune_exe.data.duplicates.words import MARK_FOLLOWS, Places, Words32, hash_words, word_hashes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BY_CHANCE = {
    "the": "ooooooooooooooonooooooooooojooooooomoooo",
    "and": "hoolikjkikllmjjgjokkgiijihihigkfgfikhkgg",
    "of": "fooohooolnoooogjkoooooofhookofmooomggofn",
    "to": "gooohooomloooohkkmoeogogiooiogkooolliogn",
    "a": "oooooonnoooooooooooooomoomogooooooolooon",
    "in": "emoofoonkmnomoejoioooooffmokofmmknoefmfn",
    "is": "goojfjolilkmnoegonlojooidlohnjjldndkmhkm",
    "for": "fooofnooinnooofigmmokoofgmmhnfnknlkheiek",
    "that": "honmkkglnmmmlehffmllehghkhgkfimfeekigkid",
    "as": "gollflmlmmlojmiehlnnfnnjefnimgmegdmkimhf",
    "on": "emomgmomimoliogikmlononehmnkmdjmjmnifkfl",
    "from": "fmoogooolmnooohjjlnnmnngglmlngjmimmjgmel",
    "with": "fooofnnogooooofhhlnnmnneflminemkmmmkfkfl",
    "are": "honmhholojjklologlmnmnnlilmfnjlmdhdkhilj",
    "this": "omolhlekohlmlnnmllhimnhlniemhmlllljimlkl",
    "it": "njohjidikhijhmjkkjihlkelkidgcmmkkkiklilk",
    "you": "okoikknijkklgeklkjlilcnmjlejnmlmjmiimjmj",
    "or": "joolhkllkkjljkkjmmhlljljhfkfmkijkjfklhlk",
    "by": "fnoohonokmminnikkmlnmnnhgllimglllljfimgk",
    "be": "iookgiolkkilknmklllnknnjglmenjllgliklgil",
    "he": "omoooogokmonnnmnnlnmmgcmkldmdlllkljklmmk",
    "have": "imofejjllmkmlniihmllmmmjejmhkgllliekkhii",
    "has": "joohfkjnokknlnlmnmknjmmmglmhmllkjleilkjk",
    "your": "ooooooonnmnmmmmmmkmmlmmlmkllmlkklkljlllk",
    "an": "oooomkooonnnnnmlnmmnkmmmmlmlmlllllmklmlk",
    "if": "foonimokknllnnjebmmmcmmiiklkljlcccfkekgd",
    "will": "lnomloolkmkmmmhegmlagcmkmkklklkfhhekglli",
    "more": "ojjjmjlhlkhmkllmigkmjklllillkkkkkjljijli",
    "was": "hookgiokllillnkjnlknjmmjgjmjlklhgleklihk",
    "their": "oooononnnmmmmmlkmllmlllllkjklkkkkkljklkk",
    "where": "hlokjlgnlmlmmiihflllflljikjiihkggeljglif",
    "she": "oloooognnmnmmmmlmlmilgclmkdlelkjlkljlllk",
    "there": "okolgjdikmnmjakklkkhlhglgkejdlkjljkjlklk",
    "they": "ooooooonmmnmmclmmlmjlcmllkdlllkkkjijgllk",
    "not": "jnmihhojjhiikmjklkmejemkhkljmljkfiljljii",
    "which": "jojmljcnnkmmmeijillmghflihgkejkhieljgljg",
    "each": "ojflokjhnmmmhmlmmlmjlijlkjjlkkkkkkljkjkk",
    "at": "eooofonnimnmmmfjlmmmlmmgfkklmgjllllehkgk",
    "his": "onooooonlmnmmmlmmjmmlmmllkllllkkkkljlllk",
    "we": "ooooonnnljlmldlmlllkldlklkdkikkkkkjjkkkj",
}
"""For each of the 40 commonest words of English, how much more often chance would put each of the 40 behind it, with no
mark between, than 17,000 public questions and answers do in which they were counted: i is as often, each letter on
e**0.5 times as often, up to o."""
_AS_OFTEN = ord("i")
_LEAST = 12
"""Half logarithms that the different pairs of an answer add up to where its words stand in no order: in 34,421 public
texts, half of which were not counted, they come to 9 at most; in 400 answers whose words were shuffled to 12 or more in
59 %, and in four of five of those with 60 words."""
_MOST_COMMON = 0.7
"""Share of these words above which a text is a list of them."""
_ROWS_AT_ONCE = 10_000
"""Rows whose pairs of words are summed at a time: of those of a million rows the sums would take a gigabyte."""
_LOW_BITS = 16
"""Bits of a hash by which words are looked up; the few words of the table fall on different places."""


class _Tables(NamedTuple):
    """How pairs of words are looked up."""

    number_of: NDArray[np.uint16]
    """By the low bits of a hash: the number of a common word, or 0. Other words have the same bits now and then."""
    hashes: NDArray[np.uint32]
    """The whole hash of each number."""
    chance: NDArray[np.int8]
    """By the number of a word times that of words, plus the number of the next; 0 where either is no common word."""


@cache
def _tables() -> _Tables:
    import numpy as np

    size = len(_BY_CHANCE) + 1
    hashes = np.concatenate(([np.uint32(0)], word_hashes(hash_words(list(_BY_CHANCE)).words)))
    number_of = np.zeros(1 << _LOW_BITS, np.uint16)
    number_of[hashes[1:] & np.uint32((1 << _LOW_BITS) - 1)] = np.arange(1, size)
    chance = np.zeros((size, size), np.int8)
    chance[1:, 1:] = [[ord(letter) - _AS_OFTEN for letter in row] for row in _BY_CHANCE.values()]
    return _Tables(number_of, hashes, chance.ravel())


def _shuffled(facts: Facts) -> Iterator[Hit]:
    import numpy as np

    words, starts, tables = facts.words.words, facts.words.starts, _tables()
    for begin in range(0, len(starts) - 1, _ROWS_AT_ONCE):
        rows = slice(begin, min(begin + _ROWS_AT_ONCE, len(starts) - 1))
        likely = _seems_shuffled(words, facts.words.answers[rows], starts[rows.start + 1 : rows.stop + 1], tables)
        for place in begin + np.flatnonzero(likely & (facts.structures[rows] != Structure.PYTHON)):
            num_pairs = _pairs_by_chance(words[facts.words.answers[place] : starts[place + 1]], tables)
            if num_pairs:
                yield Hit(int(facts.index[place]), f"{num_pairs} pairs of words that hardly follow each other")


def _seems_shuffled(words: Words32, begins: Places, ends: Places, tables: _Tables) -> NDArray[np.bool_]:
    """Say of each answer whether its pairs are there by chance at first sight, where other words pass for common ones.

    Args:
        words: Of all rows.
        begins: Where answers that follow each other begin.
        ends: Where they end.
        tables: How pairs are looked up.
    """
    import numpy as np

    start = begins[0]
    numbers = tables.number_of[words[start : ends[-1]] & np.uint32((1 << _LOW_BITS) - 1)]
    chance = tables.chance[numbers[:-1] * np.uint16(len(tables.hashes)) + numbers[1:]]
    sums = np.concatenate(([0], np.cumsum(chance, dtype=np.int64)))
    first, last = np.minimum(begins - start, len(sums) - 1), np.maximum(ends - start - 1, 0)
    likely: NDArray[np.bool_] = sums[last] > sums[first]
    return likely


def _pairs_by_chance(words: Words32, tables: _Tables) -> int:
    """Count the pairs of words of an answer that are there by chance; 0 where its words stand in order."""
    import numpy as np

    plain = word_hashes(words)
    numbers = tables.number_of[plain & np.uint32((1 << _LOW_BITS) - 1)]
    numbers[plain != tables.hashes[numbers]] = 0
    joined = (words[:-1] >> np.uint32(MARK_FOLLOWS) == 0) & (numbers[:-1] > 0) & (numbers[1:] > 0)
    pairs = np.unique((numbers[:-1] * np.uint16(len(tables.hashes)) + numbers[1:])[joined])
    chance = tables.chance[pairs]
    common = np.count_nonzero(numbers) > _MOST_COMMON * len(words)
    return 0 if common or chance.sum() < _LEAST else int(np.count_nonzero(chance > 0))


_ORDERED = (
    "The harbour of the town was dug by hand in the winter of the great frost, and it lets the boats rest when the "
    "sea is rough. It is one of the few that a ship can enter at any time of the day."
)
_DISORDERED = (
    "the of harbour town the was hand by dug the in great winter frost the of it and boats the lets rest is when sea "
    "the rough few of it is the one that the a ship at can any enter of time day the."
)

CHECKS = (
    DataCheck(
        code="shuffled_words",
        severity="warning",
        message="the words of the answer stand in no order",
        fix="take the text from its source again, or drop the row",
        find=_shuffled,
        usual=0.2,
        example=[asked("How was it built?", _ORDERED), asked("How was it built?", _DISORDERED)],
        counterexample=[asked("How was it built?", _ORDERED), asked("Name two articles.", "The, a.")],
    ),
)
