"""Text that was decoded by another rule than it was encoded by, beyond UTF-8 taken for Western European."""

from __future__ import annotations

import re

_PAIR_LEADS = re.compile("[\u251c\u253c\u2568\u2564\u221a]|\u201a\u00c4|\u00e2\u20ac")
_SCRIPT_LEADS = re.compile("[\u05f3\u0637\u0638\u0e40]")
_HAN_LEADS = re.compile("[\u4e00-\u9fff]")
_HIGH_LEADS = re.compile("[\u00c0-\u00ff]{3}")
_RARE_LEADS = re.compile("[\u0080-\u00ff\u0152-\u0192\u0400-\u045f\u0490\u0491\u2013-\u2122\u2500-\u25a0]{12}")
_BETWEEN = re.compile(
    "[a-z][\u00b8\u2030\u02c6\u00f7\u207f\u03a3\u0398\u2580\u201a\u201e\u201d\u0178][a-z]"
    "|[a-z]{2}(?:[\u0160\u017d\u00c0-\u00d6\u00d8-\u00de][a-z]|[\u0160\u017d](?=[\\s.,;:!?]|\\Z))"
)
"""A sign, or a capital with an accent, in a word of small letters: one code page of the West taken for another."""
_MIN_BETWEEN = 2
"""Different words: one may be two words that lost their space, as "geometers\u00c9cole" in a public page."""
_BETWEEN_LEADS = re.compile(
    "[\u00b8\u2030\u02c6\u00f7\u207f\u03a3\u0398\u2580\u201a\u201e\u0178\u0160\u017d\u00c0-\u00d6\u00d8-\u00de]"
)
_PAIRS = re.compile(
    # UTF-8 as a code page of DOS: a corner or a cross of a table, and a letter or sign that tables have not behind it
    "[\u251c\u253c\u2568\u2564][\u00a0-\u045f]"
    # UTF-8 as Mac Roman: a root of no number; three more as quotation marks, dashes and dots
    "|\u221a[\u00a2-\u00b0\u00b4-\u00b6\u00b8-\u00ff\u0152\u0153\u0178\u0192\u2020-\u2026\u2122]"
    "|\u201a\u00c4[\u00ec-\u00fa\u00b6\u00a2]"
    # UTF-8 as CP1252 with the last byte lost
    "|\u00e2\u20ac[?\u0153\u009d]"
)
_ONE_BYTE_CODECS = (
    "cp437", "cp850", "cp866", "cp874", "cp1250", "cp1251", "cp1253", "cp1255", "cp1257", "koi8-r", "mac_roman",
)  # fmt: skip


_MARKS_AS = frozenset(
    said
    for codec in _ONE_BYTE_CODECS
    for mark in "\u2018\u2019\u201c\u201d\u2013\u2014\u2026"
    if len(said := mark.encode().decode(codec, "ignore")) == len(mark.encode())
)
"""What single-byte codecs make of the quotation marks, dashes and dots of UTF-8."""
_CENTRAL = re.compile(
    "(?<=[A-Za-z])[\u0102\u00c4\u0139][\u20ac\u201a\u201e\u2026\u2020\u2021\u2030\u2039\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u2122\u203a"
    "\u02c7\u02d8\u00a4\u00a6-\u00a9\u00ab-\u00ae\u00b0\u00b1\u02db\u00b4-\u00b8\u00bb\u02dd]"
    "|(?<=[a-z])[\u0102\u00c4\u0139][\u015b\u0165\u017e\u017a\u0161\u015f\u0142\u0105\u013e\u017c\u0141\u0104\u015e\u017b\u013d\u015a\u0164\u017d\u0179\u0160]"
)
"""Letters of Central Europe in UTF-8, read as CP1250."""
_TURKISH = re.compile(
    "[a-z\u00e7\u00f6\u00fc](?:l[ae]r\u00fd|[nld]\u00fdn|d\u00fdr|m\u00fd\u00fe|l\u00fdk|\u00f0\u00fd|c\u00fd)|\u00fdyor|[ae]\u00f0\u00fd|de\u00f0il|\u00feimdi|\u00fe[eu]y|i\u00fele"
    "|ba\u00fe[kl]|ya\u00fe[a\u00fd]|\u00e7al\u00fd\u00fe|s\u00fdc|yar\u00fdn|i\u00feim?|\u00fd\u00fe"
)
_ICELANDIC = re.compile(r"\b(?:og|a\u00f0|ekki|\u00fea\u00f0|sem|er|til|vi\u00f0|hann|h\u00fan)\b")
"""Its letters are those that Latin-1 has where Turkish (ISO 8859-9) has its own."""
_MIN_TURKISH = 2
"""Different words: one may be a foreign name."""
_EVERY_SECOND = (
    re.compile("[\u0637\u0638][\u00a0-\u00bf\u0600-\u06ff\u2010-\u2122\u0192\u0152\u0153\u02c6]"),  # Arabic as CP1256
    re.compile("\u05f3[\u00a0-\u00bf\u05b0-\u05ea\u2010-\u2122\u0192\u02c6\u02dc\ufffd]"),  # Hebrew as CP1255
)
_THAI = re.compile("\u0e40[\u0e18\u0e19]")  # every third letter of Thai as CP874
_ASCII = bytes(range(128))
_MIN_COUNT, _MIN_SHARE = 4, 0.35
"""Pairs of characters, and their share of all that is not ASCII: a few come by chance in a text with accents."""
_HAN = re.compile("[\u4e00-\u9fff][^\x00-\x7f]{3,}")
_HIGH_RUN = re.compile("[\u00c0-\u00ff]{3,}")
"""A word of accented letters alone: Cyrillic, Greek or Arabic of one byte a letter, taken for Latin-1."""
_MIN_HIGH_LETTERS, _SHORT_HIGH = 13, 3
"""Letters of several such words, and of the longest: names of few letters are written with accents alone."""


_HAN_RUN = re.compile("[\u4e00-\u9fff]+")
_MIN_HAN, _COVERED = 20, 0.8
"""Characters of Chinese enough to tell, and the share of those in use in any country; of random ones less are."""
_MIN_MANY_HAN, _USUAL_OF = 30, 40
"""Of so many characters, one in forty at least is a usual one; in texts it is every second."""
_USUAL_HAN = re.compile(
    "[\u7684\u4e00\u662f\u4e0d\u4e86\u5728\u4eba\u6709\u6211\u4ed6\u8fd9\u4e2d\u5927\u6765\u4e0a\u56fd\u4e2a\u5230\u8bf4\u4eec"
    "\u4e3a\u5b50\u548c\u4f60\u5730\u51fa\u9053\u4e5f\u65f6\u5e74\u5f97\u5c31\u90a3\u8981\u4e0b\u4ee5\u751f\u4f1a\u81ea\u7740"
    "\u53bb\u4e4b\u8fc7\u5bb6\u5b66\u5bf9\u53ef\u5979\u91cc\u540e\u5c0f\u4e48\u5fc3\u591a\u5929\u800c\u80fd\u597d\u90fd\u7136"
    "\u6ca1\u65e5\u4e8e\u8d77\u8fd8\u53d1\u6210\u4e8b\u53ea\u4f5c\u5f53\u60f3\u770b\u6587\u65e0\u5f00\u624b\u5341\u7528\u4e3b\u884c"
    "\u65b9\u53c8\u5982\u524d\u6240\u672c\u89c1\u7ecf\u5934\u9762\u516c\u540c\u4e09\u5df2\u8001\u4ece\u52a8\u4e24\u957f"
    "\u9019\u4f86\u570b\u500b\u8aaa\u5011\u70ba\u6642\u6703\u904e\u5b78\u5c0d\u88e1\u5f8c\u9ebc\u6c92\u65bc\u9084\u767c\u7576\u7121"
    "\u958b\u898b\u7d93\u982d\u540c\u5f9e\u52d5\u5169\u9577\u8207\u4f46\u56e0\u7531\u5176\u4e9b\u7136\u5916\u5206\u5f0f\u53ca\u6216\u5b9a\u88ab\u4f7f]"
)
_ONE_SCRIPT = 5
"""Up to one character in so many may be of another script, such as a dot between names."""
_KANA = re.compile("[\u3040-\u309f]")
_HAN_CODECS = ("gb2312", "big5", "shift_jis")
"""What they have is what is written in China, on Taiwan, in Japan."""
_PIECE = re.compile(r"[^\n]{12,200}")
_MIN_WORDS, _MIN_WORD_LETTERS, _MAX_PIECES = 2, 6, 4
"""Fewer common words, or shorter ones, show by chance in a language of the same script."""
_IN_A_ROW = re.compile("[\u0080-\u00ff\u0152-\u0192\u0400-\u045f\u0490\u0491\u2500-\u25a0]{3}")
_LETTERS_IN_A_ROW = re.compile(r"[^\W\d_]{2,}")
_MARK_LEAD = re.compile("|".join(map(re.escape, sorted(_MARKS_AS))) + "|\u9225[\u4e00-\u9fff]")
_CENTRAL_LEADS = re.compile("[\u0102\u00c4\u0139][^\x00-\x7f]")
_TURKISH_LEADS = re.compile("[\u00f0\u00fd\u00fe]")
_LEAD = re.compile(
    "|".join(
        lead.pattern
        for lead in (
            _BETWEEN_LEADS, _PAIR_LEADS, _SCRIPT_LEADS, _HAN_LEADS, _HIGH_LEADS, _RARE_LEADS, _MARK_LEAD,
            _CENTRAL_LEADS, _TURKISH_LEADS,
        )
    )
)  # fmt: skip
"""What every text has, ASCII left out, in which one of the rules below finds a fault."""
_PAIRS_OF_CODECS = (
    ("cp1251", "koi8-r"), ("cp1251", "cp866"), ("koi8-r", "cp1251"), ("cp866", "cp1251"), ("koi8-r", "cp866"),
    ("cp866", "koi8-r"), ("latin-1", "koi8-r"), ("latin-1", "cp866"), ("latin-1", "cp1251"), ("latin-1", "cp1256"),
    ("cp1252", "koi8-r"), ("cp1252", "cp866"), ("cp1252", "cp1251"), ("cp1252", "cp1256"), ("mac_cyrillic", "cp1251"),
    ("cp1251", "mac_cyrillic"),
)  # fmt: skip
"""How a text was decoded, and what it was encoded by."""
_COMMON = frozenset({
    "\u0447\u0442\u043e", "\u043a\u0430\u043a", "\u0434\u043b\u044f", "\u044d\u0442\u043e", "\u0438\u043b\u0438",
    "\u043f\u0440\u0438", "\u0435\u0441\u043b\u0438", "\u043d\u0435", "\u043d\u0430", "\u043f\u043e",
    "\u043e\u0442", "\u0438\u0437", "\u0437\u0430", "\u0431\u044b\u0442\u044c", "\u043c\u043e\u0436\u0435\u0442",
    "\u0435\u0433\u043e", "\u0442\u0430\u043a\u0436\u0435", "\u0432\u044b", "\u0432\u0430\u043c",
    "\u0442\u0430\u043a", "\u043d\u043e", "\u0432\u0441\u0435", "\u0431\u044b\u043b", "\u0431\u044b\u043b\u043e",
    "\u043e\u043d\u0438", "\u043e\u043d\u0430", "\u043c\u044b", "\u0435\u0441\u0442\u044c", "\u043d\u0435\u0442",
    "\u043a\u043e\u0442\u043e\u0440\u044b\u0435", "\u043a\u043e\u0442\u043e\u0440\u044b\u0439",
    "\u043c\u043e\u0436\u043d\u043e", "\u0447\u0442\u043e\u0431\u044b", "\u0449\u043e", "\u044f\u043a",
    "\u0442\u0430", "\u0430\u0431\u043e", "\u0446\u0435", "\u0432\u0456\u0434", "\u0439\u043e\u0433\u043e",
    "\u0434\u0430", "\u0441\u0435", "\u043a\u0430\u0442\u043e", "\u0442\u043e\u0432\u0430", "\u0441\u0430",
    "\u0645\u0646", "\u0641\u064a", "\u0639\u0644\u0649", "\u0625\u0644\u0649", "\u0623\u0646",
    "\u0647\u0630\u0627", "\u0627\u0644\u062a\u064a", "\u0627\u0644\u0630\u064a", "\u0645\u0627", "\u0644\u0627",
    "\u0639\u0646", "\u0645\u0639", "\u0643\u0627\u0646", "\u0647\u0630\u0647", "\u0644\u0645", "\u0642\u062f",
    "\u0625\u0646", "\u0643\u0644", "\u0647\u0644",
})  # fmt: skip
"""Words that every text of some length has in Russian, Ukrainian, Bulgarian or Arabic."""


def may_be_wrongly_decoded(foreign: str) -> bool:
    """Whether the characters beyond ASCII of a text are such as `find_wrong_codec` looks for."""
    return _LEAD.search(foreign) is not None


def find_wrong_codec(text: str) -> int:
    """Find where a text was decoded by the wrong rule; -1 where it was not."""
    foreign = text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")
    if _PAIR_LEADS.search(foreign) is not None and (found := _PAIRS.search(text)) is not None:
        return found.start()
    if _MARK_LEAD.search(foreign) is not None and (mark := _MARK_LEAD.search(text)) is not None:
        return mark.start()
    if _CENTRAL_LEADS.search(foreign) is not None and (central := _CENTRAL.search(text)) is not None:
        return central.start()
    if _TURKISH_LEADS.search(foreign) is not None and _ICELANDIC.search(text) is None:
        turkish = {found[0]: found.start() for found in _TURKISH.finditer(text)}
        if len(turkish) >= _MIN_TURKISH:
            return min(turkish.values())
    if _BETWEEN_LEADS.search(foreign) is not None:
        between = {found[0]: found.start() for found in _BETWEEN.finditer(text)}
        if len(between) >= _MIN_BETWEEN:
            return min(between.values())
    if _SCRIPT_LEADS.search(foreign) is not None:
        return _repeated_lead(text)
    if _HAN_LEADS.search(foreign) is not None and (place := max(_utf8_as_gbk(text), _rare_han(text))) >= 0:
        return place
    if _RARE_LEADS.search(foreign) is not None and (place := _other_words(text)) >= 0:
        return place
    return _high_words(text) if _HIGH_LEADS.search(foreign) is not None else -1


def _other_words(text: str) -> int:
    """Find where common words show when the decoding is undone, in a piece of a text that shows none as it stands."""
    tried = 0
    for piece in _PIECE.finditer(text):
        if tried == _MAX_PIECES:
            break
        if _IN_A_ROW.search(piece[0]) is None or not _COMMON.isdisjoint(_LETTERS_IN_A_ROW.findall(piece[0].lower())):
            continue
        tried += 1
        for read, written in _PAIRS_OF_CODECS:
            said = piece[0].encode(read, "ignore").decode(written, "ignore").lower()
            common = _COMMON.intersection(_LETTERS_IN_A_ROW.findall(said))
            if len(common) >= _MIN_WORDS and sum(map(len, common)) >= _MIN_WORD_LETTERS:
                return piece.start()
    return -1


def _rare_han(text: str) -> int:
    """Find Chinese characters most of which nobody writes."""
    runs = list(_HAN_RUN.finditer(text))
    written = "".join([run[0] for run in runs])
    if len(written) < _MIN_HAN:
        return -1
    if len(written) >= _MIN_MANY_HAN and _KANA.search(text) is None:
        usual = len(_USUAL_HAN.findall(written))
        if usual * _USUAL_OF < len(written):
            return runs[0].start()
    for codec in _HAN_CODECS:
        if len(written.encode(codec, "ignore")) >= _COVERED * 2 * len(written):
            return -1
    return runs[0].start()


def _high_words(text: str) -> int:
    """Find words of nothing but accented letters, where there are several."""
    words = [
        run
        for run in _HIGH_RUN.finditer(text)
        if not _is_letter(text, run.start() - 1) and not _is_letter(text, run.end())
    ]
    distinct = {word[0] for word in words}
    enough = (
        len(distinct) > 1 and sum(map(len, distinct)) >= _MIN_HIGH_LETTERS and max(map(len, distinct)) > _SHORT_HIGH
    )
    return words[0].start() if enough else -1


def _is_letter(text: str, place: int) -> bool:
    return 0 <= place < len(text) and text[place].isalpha()


def _repeated_lead(text: str) -> int:
    """Find scripts whose letters all begin with the same byte in UTF-8, which is another letter elsewhere."""
    beyond = sum(not character.isascii() for character in text)
    for pattern in (*_EVERY_SECOND, _THAI):
        found = [match.start() for match in pattern.finditer(text)]
        share = 0.25 if pattern is _THAI else _MIN_SHARE
        if len(found) >= _MIN_COUNT and len(found) >= share * beyond:
            return found[0]
    return -1


def _utf8_as_gbk(text: str) -> int:
    """Find Chinese characters whose bytes in GBK are the UTF-8 of other ones."""
    for run in _HAN.finditer(text):
        try:
            data = run[0].encode("gbk")
        except UnicodeEncodeError:
            return -1
        said = _decoded_start(data)
        if len(said) >= _MIN_COUNT and 3 * len(said) + 6 >= len(data) and _is_of_one_script(said):
            return run.start()
        return -1
    return -1


def _is_of_one_script(said: str) -> bool:
    """Whether most characters are of East Asia or of one other alphabet; chance gives letters of several."""
    blocks = ((0x2000, 0x10000), (0x370, 0x400), (0x400, 0x500), (0x590, 0x600), (0x600, 0x700), (0xE00, 0xE80))
    most = max(sum(first <= ord(character) < last for character in said) for first, last in blocks)
    return most * _ONE_SCRIPT >= (_ONE_SCRIPT - 1) * len(said)


def _decoded_start(data: bytes) -> str:
    """Decode bytes as UTF-8 up to the first that is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode()
